"""Conditional randomization tests of target gene → gene-program usage."""
