"""Builds the next generation next to the live one. It proves nothing and moves no name."""
