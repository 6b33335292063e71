"""Invalid options, config files, tables and folders."""

import json

import pandas as pd

from tests.robustness.inputs import Case, config, with_options

CONFIGS = [
    with_options("a config that is not there", ("--config", "none.yaml"), "none.yaml does not exist"),
    with_options("a folder as config", ("--config", "/"), "the config file /"),
    config("a config that is not YAML", "seed: [1", "is not YAML"),
    config("a config of bytes", bytes(range(128, 256)), "is not YAML"),
    config("a config that is a list", "- seed\n", "name: value"),
    config("a config that is a word", "seed", "name: value"),
    config("a config with an unknown option", "sede: 1\n", "no option 'sede'", "Did you mean 'seed'?"),
    config("a config with an option twice", "max_steps: 3\nmax-steps: 4\n", "max_steps", "Keep one"),
    config("a config with the same key twice", "seed: 1\nseed: 2\n", "seed", "Keep one"),
    config("a config with text for a number", "seed: many\n", "seed is 'many'", "a whole number"),
    config("a config with NaN", "likelihood_weight: .nan\n", "likelihood_weight is nan", "above 0"),
    config("a config with minus infinity", "likelihood_weight: -.inf\n", "likelihood_weight is -inf", "above 0"),
    config("a config with true for a number", "seed: true\n", "seed is True", "a whole number"),
    config("a config with a list for a number", "seed: [1]\n", "seed is [1]", "a whole number"),
    config("a config of another command", json.dumps({"command": "run-crt", "options": {}}), "the record of run-crt, not of fit-hierarchy"),
    config("a record without options", json.dumps({"command": "fit-hierarchy", "options": 3}), "name: value"),
    config("a config that would run code", "seed: !!python/object/apply:os.mkdir ['executed']\n", "is not YAML"),
    config("a config with a wrong yes", "report: !!bool perhaps\n", "is not YAML"),
    config("a config with a wrong time", "seed: !!timestamp never\n", "is not YAML"),
    config("a config with a huge number", f"seed: 0x{'f' * 6000}\n", "seed is", "at most 4294967295"),
    config(
        "a config that grows without end",
        "a: &a [x,x]\n" + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(12)) + "seed: *b11\n",
        "seed is",
    ),
    config("a config with a zero byte in a path", 'cache: "a\\0b"\n', "cache is", "zero byte"),
    config("a config with half a character", 'ref_fate: "\\ud800"\n', "ref_fate is", "UTF-8"),
    config("a config with a date for a number", "seed: 2020-01-01\n", "seed is '2020-01-01'", "a whole number"),
    config("a config with a time for a number", "seed: 1:30\n", "seed is '1:30'", "a whole number"),
    config("a config with Norway for a number", "seed: NO\n", "seed is 'NO'", "a whole number"),
]
FIT = [
    with_options("no seed below 0", ("--seed", -1), "--seed is '-1'", "at least 0", "The nearest is 0"),
    with_options("a seed of a half", ("--seed", 0.5), "--seed is '0.5'", "a whole number"),
    with_options("a weight of 0", ("--likelihood-weight", 0), "--likelihood-weight is '0'", "above 0"),
    with_options("a weight that is not a number", ("--likelihood-weight", "nan"), "--likelihood-weight is 'nan'", "above 0"),
    with_options("an unknown family", ("--posterior", "gene_blocks"), "--posterior is 'gene_blocks'", "Did you mean 'gene_block'?"),
    with_options("draws beyond memory", ("--draws", 10**9), "1,000,000,000 posterior draws would take at least", "this machine has", "Option: --draws."),
    with_options("one draw", ("--draws", 1), "--draws is '1'", "at least 2"),
    with_options("no step", ("--max-steps", 0), "--max-steps is '0'", "at least 1"),
    with_options("an unknown device", ("--device", "tpu"), "'tpu' is not a device", "Choose 'auto'"),
    with_options("a cluster without the sandwich", ("--cluster-key", "rep"), "--cluster-key is for --se sandwich"),
    with_options("the sandwich for mean_field", ("--se", "sandwich", "--posterior", "mean_field"), "gene_block"),
    Case("fit-hierarchy", "no screen", lambda workspace: [], ("SCREEN is missing", ".h5ad")),
]


def sim(name, options, *expected):
    return Case("simulate-screen", name, lambda workspace: options, expected)


SIMULATE = [
    sim("no cells", ("--cells", 0), "--cells is '0'", "at least 1"),
    sim("no genes", ("--genes", 0), "--genes is '0'", "at least 1"),
    sim("cells beyond memory", ("--cells", 10**15), "1,000,000,000,000,000 cells would take at least", "this machine has", "--cells"),
    sim("no days", ("--days", 0), "--days is '0'", "at least 1"),
    sim("cells of text", ("--cells", "many"), "--cells is 'many'", "a whole number"),
    sim("no guides", ("--guides-per-gene", "0"), "guides_per_gene is 0", "at least 1"),
    sim("guides of text", ("--guides-per-gene", "few"), "--guides-per-gene is 'few'", "give a number"),
    sim("guides from high to low", ("--guides-per-gene", "3-1"), "--guides-per-gene is '3-1'", "give a number"),
    sim("one fate", ("--fates", "A"), "fates must be two or more"),
    sim("a fate twice", ("--fates", "A,A"), "fates must be two or more"),
    sim("no MOI", ("--moi", 0), "--moi is '0'", "above 0"),
    sim("a MOI without bound", ("--moi", "inf"), "--moi is 'inf'", "above 0"),
    sim("a MOI beyond all guides", ("--moi", "1e300"), "--moi is '1e300'", "at most"),
    sim("a precision that is not a number", ("--concentration", "nan"), "--concentration is 'nan'", "above 0"),
    sim("a precision beyond the drawable", ("--concentration", "1e308"), "--concentration is '1e308'", "at most"),
]


def score(name, table=None, truth=None, *expected, options=()):
    """score-daywise with a table or truth that `table` or `truth` makes of the right one: a DataFrame, or bytes."""

    def arguments(workspace):
        out = []
        for path, change, called in zip(workspace.valid_arguments(), (table, truth), ("table.csv", "truth.csv"), strict=True):
            made = pd.read_csv(path) if change is None else change(pd.read_csv(path)) if callable(change) else change
            out.append(workspace.file(called, made.to_csv(index=False) if isinstance(made, pd.DataFrame) else made))
        return [*out, *options]

    return Case("score-daywise", name, arguments, expected)


def cell(column, value):
    def change(table):
        table = table.astype({column: object})
        table.loc[1, column] = value
        return table

    return change


SCORE = [
    Case(
        "score-daywise",
        "a table that is not there",
        lambda workspace: [workspace.inputs / "no.csv", workspace.valid_arguments()[1]],
        ("no.csv is not a file", "Give"),
    ),
    Case("score-daywise", "a folder as table", lambda workspace: [workspace.inputs, workspace.valid_arguments()[1]], ("is not a file", "Give")),
    Case(
        "score-daywise",
        "a table that is not zip",
        lambda workspace: [workspace.file("t.zip", b"no"), workspace.valid_arguments()[1]],
        ("t.zip", "can't be read as a CSV"),
    ),
    score("an empty table", b"", None, "table.csv", "can't be read as a CSV"),
    score("a table of headings", lambda t: t.iloc[:0], None, "no rows"),
    score("a table in UTF-16", "gene,betahat_d0".encode("utf-16"), None, "table.csv", "can't be read as a CSV"),
    score("a table without genes", lambda t: t.drop(columns="gene"), None, "no column gene", "not swapped"),
    score("table and truth the wrong way round", lambda t: pd.DataFrame({"gene": ["a"], "fate": ["MES"]}), None, "betahat", "not swapped"),
    score("a table without errors", lambda t: t.drop(columns="se_d0"), None, "se_d0"),
    score("a table with text", cell("betahat_d0", "high"), None, "betahat_d0", "'high'"),
    score("a table with a NaN", cell("betahat_d0", ""), None, "betahat_d0", "row 1"),
    score("a table with an infinite effect", cell("betahat_d0", "inf"), None, "betahat_d0", "row 1"),
    score("a table with an error of 0", cell("se_d1", 0), None, "se_d1", "row 1", "positive"),
    score("a table with a negative error", cell("se_d1", -1), None, "se_d1", "row 1", "positive"),
    score("a gene twice in the table", lambda t: pd.concat([t, t.iloc[:1]]), None, "GENE0", "twice"),
    score("a table of other genes", lambda t: t.assign(gene=[f"x{i}" for i in range(len(t))]), None, "x0", "its own truth"),
    score("a table of another day", lambda t: t.drop(columns=["betahat_d0", "se_d0"]), None, "1 days", "its own truth"),
    score("a truth without theta", None, lambda t: t.drop(columns="theta"), "no column theta", "not swapped"),
    score("a truth with a row twice", None, lambda t: pd.concat([t, t.iloc[:1]]), "GENE0", "twice"),
    score("a truth without a row", None, lambda t: t.iloc[1:], "GENE0", "d0"),
    score("a truth of text", None, cell("theta", "high"), "theta", "'high'"),
    score("a truth with a NaN", None, cell("theta", ""), "theta", "row 1"),
    score("an unknown fate, some unnamed", None, lambda t: t.assign(fate=["X", *[None] * (len(t) - 1)]), "no fate 'MES'", "--contrast-fate"),
    score("an unknown fate", None, None, "no fate 'X'", "--contrast-fate", options=("--contrast-fate", "X")),
    score("a level of 1", None, None, "--level is '1'", "below 1", options=("--level", 1)),
]


def out(name, make, *expected, by="simulate-screen"):
    return Case(by, name, lambda workspace: [*workspace.valid_arguments(), "--out", make(workspace)], expected)


def earlier_of(other):
    def make(workspace):
        (workspace.out / "run.json").write_text(json.dumps({"command": other, "files": []}))
        return workspace.out

    return make


def folder_in_place(name):
    def make(workspace):
        (workspace.out / name).unlink()
        (workspace.out / name).mkdir()
        return workspace.out

    return make


OUT = [
    out("a file as folder", lambda workspace: workspace.file("here", "x"), "is not a folder", "--out"),
    out("a folder below a file", lambda workspace: workspace.file("here", "x") / "there", "is not a folder", "--out"),
    out("a name too long", lambda workspace: workspace.inputs / ("x" * 300), "File name too long", "shorter"),
    out(
        "a link to nowhere",
        lambda workspace: (workspace.inputs / "link").symlink_to(workspace.inputs / "nowhere") or workspace.inputs / "link",
        "link",
        "--out",
    ),
    out("results of another command", earlier_of("run-crt"), "holds results of run-crt", "Choose another folder", "--out"),
    out("a folder in a result's place", folder_in_place("truth.csv"), "truth.csv is a folder", "Remove it"),
    out("a folder in the record's place", folder_in_place("run.json"), "run.json is a folder", "Remove it"),
    out("a folder in a result's place", folder_in_place("pvals.csv"), "pvals.csv is a folder", "Remove it", by="run-crt"),
    out("a folder in the lock's place", lambda workspace: (workspace.out / ".lock").mkdir() or workspace.out, ".lock", "Remove that folder"),
    Case("simulate-screen", "no folder", lambda workspace: ["--out", ""], ("--out",)),
]
CASES = CONFIGS + FIT + SIMULATE + SCORE + OUT
