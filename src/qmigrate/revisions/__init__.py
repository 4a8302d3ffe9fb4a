"""Revision files: their graph, one file, a new one, and Alembic's files. They open no store and no ledger."""
