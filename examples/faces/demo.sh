#!/bin/sh
# The whole example, one command after the other, in this folder. Run it in a copy: it leaves its state behind.
set -eu
cd "$(dirname "$0")"
say() { printf '\n$ %s\n' "$*"; "$@"; }

say alembic upgrade 0001
say qmigrate upgrade 0001
say python faces.py load
say python faces.py accept
say python faces.py show

# What is wrong, exactly; 4 is the exit code of drift.
set -- --sql "SELECT point_id, person_id FROM faces" --key point_id --field person_id
say qmigrate fix sync faces "$@" --check && exit 1 || test $? -eq 4

# The repair is a revision: planned with its exact count, applied once, recorded.
say qmigrate plan
say qmigrate upgrade

# Ada was imported twice. Alembic merges her rows, and the next of its revisions lets the points follow.
say alembic upgrade head

# A merge by the application itself: points follow right after the commit.
say python faces.py merge Grace Barbara
say python faces.py show
