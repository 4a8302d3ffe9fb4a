"""Runs jobs: their steps and phases, under a lease, with a journal. It plans nothing and knows nothing of revisions."""
