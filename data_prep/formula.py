"""A formula in the notation of R → design matrix, by formulaic."""

import ast
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from data_prep.design import Design, full_rank, is_numeric, labels_of, scaled
from data_prep.errors import InputError, first_few
from data_prep.read.cell_names import same_cells

# Functions of formulaic that a formula may call. A formula can come from a config file of somebody else, so it may not run other code.
FUNCTIONS = frozenset({"C", "I", "bs", "cc", "center", "cr", "cs", "exp", "log", "log10", "log2", "poly", "scale", "standardize"})
ALLOWED = (ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.List, ast.Tuple)
EXAMPLE = "Write it as '~ batch + log(umis) * phase'."


def formula_variables(formula: str) -> list[str]:
    """Names of the covariates in a formula, in sorted order.

    Raises
    ------
    InputError
        If it is no formula, has a left-hand side or no intercept, or calls functions other than those of a formula.
    """
    return sorted(set().union(*(_names(factor, formula) for term in _parsed(formula) for factor in term.factors)))


def encode_formula(formula: str, covariates: pd.DataFrame, cells: Shaped[np.ndarray, " cells"], *, where: str) -> Design:
    """The design matrix of a formula, of full column rank.

    Labels become 0/1 columns without the first level. Numbers are numbers, however few values they have, unless written as C(name). Columns with values
    other than 0 and 1 are z-scored, which changes no test. Constant columns and linear combinations of earlier columns are left out with a warning.

    Parameters
    ----------
    formula
        Formula with the intercept and without a left-hand side, such as "~ batch + log(umis) * phase"; terms are those of formulaic.
    covariates
        Covariates of the cells, with the columns of `formula_variables`.
    cells
        Names of the cells, (cells,).
    where
        Name of the covariates in error messages.

    Raises
    ------
    InputError
        On the errors of `formula_variables` and of `encode_covariates`, and if a term is NaN or infinite.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from data_prep.formula import encode_formula
    >>> cells = np.array(["a", "b", "c", "d"])
    >>> table = pd.DataFrame({"batch": ["x", "y", "x", "y"], "umis": [1.0, 2.0, 4.0, 9.0]}, index=cells)
    >>> encode_formula("~ batch * log(umis)", table, cells, where="obs").names
    ('intercept', 'batch[T.y]', 'log(umis)', 'batch[T.y]:log(umis)')
    """
    parsed = _parsed(formula)
    from formulaic.errors import FormulaicError

    same_cells(covariates.index, cells, where=where)
    variables = {str(name): _variable(covariates[name], cells, f"{where}[{str(name)!r}]") for name in covariates.columns}
    try:
        with np.errstate(all="ignore"):
            matrix = parsed.get_model_matrix(pd.DataFrame(variables, index=covariates.index), context={}, na_action="ignore", output="pandas").astype(
                np.float64
            )
    except (FormulaicError, ArithmeticError, TypeError, ValueError) as error:
        raise InputError(f"formula {formula!r} cannot be computed: {_reason(error)} {EXAMPLE}", "formula") from error
    terms = matrix.drop(columns="Intercept")
    if terms.shape[1] > max(50, cells.size // 10):
        raise InputError(f"formula {formula!r} has {terms.shape[1]:,} columns for {cells.size:,} cells. Use C() for labels only, and fewer terms.", "formula")
    columns = [_column(terms[name].to_numpy(), cells, f"formula {formula!r}: the term {name}") for name in terms.columns]
    return full_rank(columns, [str(name) for name in terms.columns], cells.size, where)


def _parsed(formula: str) -> Any:
    """The formula of formulaic, checked."""
    try:
        from formulaic import Formula, SimpleFormula
        from formulaic.errors import FormulaicError
    except ImportError:
        raise InputError("a formula needs formulaic: pip install 'fatescreen[formula]'.", "formula") from None
    try:
        parsed = Formula(formula)
    except (FormulaicError, SyntaxError, ValueError, TypeError) as error:
        raise InputError(f"{formula!r} is not a formula: {_reason(error)} {EXAMPLE}", "formula") from error
    if not isinstance(parsed, SimpleFormula):
        raise InputError(f"formula {formula!r} has several parts, such as a left-hand side; it describes the covariates only. {EXAMPLE}", "formula")
    if not formula.strip():
        raise InputError(f"the formula is empty. {EXAMPLE}", "formula")
    if "1" not in {str(term) for term in parsed}:
        raise InputError(f"formula {formula!r} leaves out the intercept, but treated cells are compared with control cells. Remove '0' or '-1'.", "formula")
    return parsed


def _names(factor: Any, formula: str) -> set[str]:
    """The covariates in a factor; anything but calls of the functions of a formula and arithmetic is refused."""
    if factor.eval_method.value != "python":
        return {str(factor.expr)} if factor.eval_method.value == "lookup" else set()
    nodes = list(ast.walk(_syntax(factor, formula)))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    if not all(isinstance(node, ALLOWED) for node in nodes) or not all(isinstance(f, ast.Name) and f.id in FUNCTIONS for f in called):
        raise InputError(f"formula {formula!r}: {factor.expr} is not allowed; a formula may call {first_few(sorted(FUNCTIONS), 20)}.", "formula")
    return {node.id for node in nodes if isinstance(node, ast.Name) and not any(node is f for f in called)}


def _syntax(factor: Any, formula: str) -> ast.Expression:
    try:
        return ast.parse(str(factor.expr), mode="eval")
    except SyntaxError:
        raise InputError(f"formula {formula!r}: {factor.expr} is not an expression; a name with spaces must be renamed. {EXAMPLE}", "formula") from None


def _variable(values: pd.Series, cells: np.ndarray, where: str) -> Any:
    """A covariate as formulaic expects it: numbers in float64, labels as a categorical."""
    if is_numeric(values, cells, where):
        return values.to_numpy(dtype=np.float64)
    codes, levels = labels_of(values, cells, where)
    return pd.Categorical.from_codes(codes.tolist(), categories=levels.tolist())


def _column(values: np.ndarray, cells: np.ndarray, where: str) -> np.ndarray:
    """A column of the design: z-scored, unless it is 0/1."""
    return values if np.isin(values, (0, 1)).all() else scaled(values, cells, where)


def _reason(error: Exception) -> str:
    """The first line of an error's message, as a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."
