"""Sections of the reports, one file for each subject: what is shown, and the text around it.

The page's parts are in `fatescreen.report`, and figures are drawn in `fatescreen.figures`.
"""
