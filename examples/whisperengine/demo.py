"""The complete path, each command as a person would type it; it stops at the first one that ends unexpectedly.

python demo.py            needs no server: Qdrant's local mode and SQLite live in .qmigrate
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import bots
from alembic.config import CommandLine, Config
from alembic.util import CommandError

from qmigrate.cli import main

MEMORIES = "whisperengine_memory_*"


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def qmigrate(line: str, *, ends: int = 0) -> None:
    """`qmigrate …`, in this process: it is quicker than starting Python each time."""
    print(f"\n$ qmigrate {line}", flush=True)
    try:
        main(shlex.split(line))
    except SystemExit as done:
        code = done.code or 0
    if code != ends:
        raise SystemExit(f"that ended with {code}, not with {ends}")


def alembic(line: str, *, stops: str | None = None) -> None:
    """`alembic …`; `stops` is a part of its refusal."""
    print(f"\n$ alembic {line}", flush=True)
    options = CommandLine().parser.parse_args(shlex.split(line))
    config = Config("alembic.ini", cmd_opts=options)
    run, positional, keywords = options.cmd
    try:
        run(config, *[getattr(options, one) for one in positional], **{one: getattr(options, one) for one in keywords})
    except CommandError as error:
        print(f"FAILED: {error}", flush=True)
        if stops is None or stops not in str(error):
            raise SystemExit("that was not expected") from error
    else:
        if stops is not None:
            raise SystemExit("that should have been refused")


def tour() -> None:
    say("As it was: bots make their own collections, and their schema is unknown")
    alembic("upgrade a1")
    with bots.open_client() as client:
        for bot in bots.BOTS:
            bots.start(bot, client)
            bots.know(bot)
    qmigrate(f"schema '{MEMORIES}' --format markdown")

    say("Backfill the versions: each collection is recorded at the revision that its schema fits; nothing is changed")
    qmigrate(f"adopt '{MEMORIES}'")
    qmigrate(f"snapshot create '{MEMORIES}'")

    say("Release 1. SQL expands; then Alembic waits at the gate until the vectors are there")
    alembic("upgrade a2")
    alembic("upgrade a3", stops="qmigrate upgrade")
    qmigrate("plan")
    qmigrate("upgrade")
    alembic("upgrade a3")
    qmigrate("schema whisperengine_memory_elena --format markdown")

    say("The application: a new bot gets the new schema at once, and code that doesn't fit isn't served")
    with bots.open_client() as client:
        for bot in (*bots.BOTS, "nova"):
            bots.serve(bot, client)
            bots.remember(bot, client)
        print("\n".join(bots.recall("elena", "ada", "old books", client)))

    say("Release 2, when no rollback is expected: SQL contracts, and all bots search by the new vector")
    alembic("upgrade head")
    with bots.open_client() as client:
        print("\n".join(bots.recall("elena", "ada", "old books", client)))
    qmigrate("status")
    qmigrate("check --offline --strict")


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    tour()
