"""Builds a generation of points of an earlier time, or of none. It moves no name."""
