"""Declared schemas: what collections should be, compared with what revisions replay to. No server, no ledger."""
