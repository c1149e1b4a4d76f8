"""Owns how large the number of a version may be."""

MAX_VERSION = 2**31 - 1  # what the column holds
