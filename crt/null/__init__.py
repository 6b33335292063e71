"""Calibration of the null distribution: NTC groups, their p-values, diagnostics, and a verdict.

Genes are tested in `crt.run`; files, figures and reports of the diagnosis are in `fatescreen`.
"""
