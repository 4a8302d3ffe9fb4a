"""Deletes generations that nothing needs any more. It moves no name that serves."""
