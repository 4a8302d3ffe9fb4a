"""The complete path, each command as a person would type it; it stops at the first one that ends unexpectedly.

python demo.py            needs no server: Qdrant's local mode and SQLite live in .qmigrate
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import service
from alembic.config import CommandLine, Config
from alembic.util import CommandError

from qmigrate.cli import main
from qmigrate.errors import QmigrateError


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
    say("Release 1: SQL and Qdrant from nothing; vectors are mocked")
    alembic("upgrade b1")
    qmigrate("upgrade 0002")
    with service.open_client() as client:
        mocked = service.Service(client, "mock", "0002")
        mocked.start()
        for org in service.ORGS:
            mocked.upload(org, "doc-1")
        print("\n".join(mocked.search("acme", "who paid the invoice")))

    say("Release 2: real embeddings. They wait for the SQL schema that they need")
    qmigrate("upgrade", ends=3)
    alembic("upgrade b2")
    qmigrate("plan")
    qmigrate("upgrade", ends=11)

    say("Built, proven and held. Release 1 continues to read and write, and release 2 doesn't start yet")
    with service.open_client() as client:
        mocked = service.Service(client, "mock", "0002")
        mocked.upload("acme", "doc-2", ["a late invoice came in by fax"])
        try:
            service.Service(client, "production", "0003").start()
        except QmigrateError as error:
            print(f"refused: {error.message}\n  → {error.hint}")
        report = service.Service(client, "production", "0003").health().check()
        print(json.dumps(report.to_json(), indent=2))
    alembic("upgrade b3", stops="qmigrate cutover embeddings")

    say("Together with the deployment of release 2: what was written since is embedded, and the name moves")
    qmigrate("cutover embeddings")
    alembic("upgrade b3")
    with service.open_client() as client:
        production = service.Service(client, "production", "0003")
        production.start()
        print("ready:", production.health().check().ready)
        print("\n".join(production.search("acme", "who paid the invoice") + production.search("globex", "two cups")))
        print("\n".join(production.search("acme", "a fax")))
        production.upload("acme", "doc-2", ["a late invoice came in by fax"])
        print("points:", client.count(service.COLLECTION).count)

    say("Release 3, when no rollback is expected: SQL contracts")
    alembic("upgrade head")
    qmigrate("status")
    qmigrate("check --offline --strict")


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    tour()
