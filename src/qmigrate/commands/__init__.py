"""One function per verb: everything the command line can do, a Python program can. Nothing here prints or exits."""
