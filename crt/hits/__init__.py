"""What a hit is worth: agreement of the guides of its gene, and effects relative to the gene's other programs.

The tests themselves are in `crt.run`; every further test here is made by the same engine with the same settings.
"""
