"""Reports: a run as one self-contained HTML page, made of blocks; a section is a file in `sections`.

Figures are drawn in `fatescreen.figures`; here they become parts of a page. Reports are put in place by `fatescreen.runs`.
"""
