"""Run folders: results that replace earlier ones all together or not at all, and the files that runs write.

Pages and figures are made elsewhere; here they are put in place.
"""
