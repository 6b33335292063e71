"""Figures as functions that return matplotlib objects, used by reports, files and notebooks alike.

They draw what they are given and compute nothing but what drawing needs.
"""
