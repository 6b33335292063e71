"""What a person touches: commands, options, run folders, reports and figures.

The science is in `data_prep`, `hierarchy` and `crt`, which know nothing of this package.
"""
