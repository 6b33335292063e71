"""The commands, one file each, and the console that they share.

A command reads its options, calls the library, and hands the results to a run folder; nothing is computed here.
"""
