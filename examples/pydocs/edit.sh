#!/bin/sh
# An edit of collections.yaml becomes a reviewed, applied revision; the last line says how long that took.
# Run it in a copy: it leaves its state behind.
set -eu
cd "$(dirname "$0")"
say() { printf '\n$ %s\n' "$*"; "$@"; }

say qmigrate upgrade
say python load.py
say qmigrate check --declared

# The edit: names get a vector of their own, and an index.
begun=$(date +%s)
awk '{ print }
    /^    vectors:/ { print "      names: {size: 256, distance: Cosine}" }
    /^    payload_indexes:/ { print "      module: keyword" }
    /^    embedders:/ { print "      names: {embedder: words, text: name}" }' collections.yaml > edited.yaml
mv edited.yaml collections.yaml

# The gate of a pull request: 3 is its exit code while a revision is missing.
say qmigrate check --declared && exit 1 || test $? -eq 3
say qmigrate revision --autogenerate -m "Names get a vector of their own."
say cat qdrant_migrations/versions/*names*.py
say qmigrate check --offline
say qmigrate check --declared
say qmigrate plan
say qmigrate upgrade
say qmigrate schema pydocs
printf '\nfrom the edit to the applied revision: %s s\n' "$(($(date +%s) - begun))"
