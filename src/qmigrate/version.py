"""The version of this distribution, for messages, records and user agents. It imports nothing."""

__version__ = "0.1.0"
