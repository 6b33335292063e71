"""The options of each command: names, defaults, ranges and help, from the command line or a config file.

Defaults of the science come from the library's settings; what an option does is not decided here.
"""
