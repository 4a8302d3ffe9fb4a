"""Runs plans: a job's steps and their phases, under a lease, with a journal. It knows nothing of revisions or plans."""
