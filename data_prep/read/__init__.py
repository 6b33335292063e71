"""Readers of files and objects, which check every part of a screen and name keys, rows and lines in their errors.

What the parts are used for is not decided here.
"""
