"""Is the null distribution right: NTC groups, their p-values, diagnostics and a verdict.

Genes are tested in `crt.run`; figures and reports of the diagnosis are in `fatescreen`.
"""
