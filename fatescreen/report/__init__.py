"""Reports: a run as one self-contained HTML page, made of blocks; a section is a file in `sections`.

Figures are drawn in `fatescreen.figures`, and pages are put in place by `fatescreen.runs`.
"""
