"""Screens in, checked tensors out: the only reader of the project."""
