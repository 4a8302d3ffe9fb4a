"""Revisions of the ledger's own tables. Each is frozen once released; it reads no state."""
