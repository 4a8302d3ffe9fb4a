"""Proves that one generation is f(another). It moves no name."""
