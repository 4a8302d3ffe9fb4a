"""The kinds of data fix, one file each; steps/edit.py runs them. None of them journals or plans."""
