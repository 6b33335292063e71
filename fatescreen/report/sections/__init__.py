"""The sections of the reports, one file for each subject.

A section chooses what to show and says what it means; how it is drawn is in `fatescreen.report` and `fatescreen.figures`.
"""
