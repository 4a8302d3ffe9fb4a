"""Declared schemas, compared with what revisions replay to; and revisions squashed into one. No server, no ledger."""
