"""The command line: click outside, ``qmigrate.commands`` inside; the only place that prints or exits."""

from qmigrate.cli.app import main

__all__ = ["main"]
