"""Readers: from files and objects to checked parts of a screen.

What a part must hold is checked here, with messages that name the key and the rows; what is done with it is not decided here.
"""
