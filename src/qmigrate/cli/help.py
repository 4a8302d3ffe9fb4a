"""What a verb is called elsewhere, and how each may end: for the help, and for words that no verb here has."""

from __future__ import annotations

from collections.abc import Mapping

#: Another word for a verb: what people type who come from Alembic.
ALIASES: Mapping[str, str] = {"current": "status", "downgrade": "rollback"}

_HINTS: Mapping[str, tuple[str, ...]] = {
    "qmigrate upgrade": ("apply", "deploy", "migrate", "migrations", "push", "run", "sync", "to", "up", "update"),
    "qmigrate upgrade +1": ("next", "step"),
    "qmigrate rollback": ("back", "down", "redo", "revert", "unapply", "undo"),
    'qmigrate revision -m "what changes"': ("add", "create", "generate", "make", "migration", "new"),
    'qmigrate revision --autogenerate -m "what changes"': ("autogenerate", "makemigrations", "automigrate"),
    'qmigrate revision --merge -m "merge"': ("merge", "rebase"),
    "qmigrate plan": ("dry-run", "dryrun", "preview", "simulate", "sql", "sqlmigrate"),
    "qmigrate status": ("info", "list", "ls", "pending", "showmigrations", "state"),
    "qmigrate history": ("audit", "log", "logs"),
    "qmigrate check": ("compare", "diff", "drift"),
    "qmigrate check --offline": ("lint", "validate"),
    "qmigrate doctor": ("diagnose", "health", "ping", "test-connection", "verify-connection"),
    "qmigrate wait": ("ready", "wait-for"),
    "qmigrate adopt '*' --dry-run": ("baseline", "import", "introspect", "pull", "track"),
    "qmigrate cutover": ("golive", "promote", "release", "swap", "switch"),
    "qmigrate abort": ("cancel", "reset-run", "stop"),
    "qmigrate snapshot create '*'": ("backup", "dump"),
    "qmigrate snapshot list": ("backups", "restore", "snapshots"),
    "qmigrate gc --dry-run": ("clean", "cleanup", "prune", "purge", "vacuum"),
    "qmigrate fix --help": (
        *("delete", "delete-orphaned-vectors", "delete-vectors", "erase", "orphans", "quarantine"),
        *("reset", "retrain", "stats", "cleanup-orphaned-vectors"),
    ),
    "qmigrate repair --help": ("dirty", "force", "force-unlock", "unlock"),
    "qmigrate show head": ("head",),
    "qmigrate init": ("initialise", "initialize", "setup", "start"),
    "qmigrate init --guided": ("config", "configure", "wizard"),
    "qmigrate completion --help": ("autocomplete", "completions", "install-completion"),
    "qmigrate --help": ("help",),
    "qmigrate --version": ("version", "versions"),
}
#: What other tools call it -> the command that does it here.
ELSEWHERE: Mapping[str, str] = {word: hint for hint, words in _HINTS.items() for word in words}

#: Exit code -> what it means.
EXIT_CODES: Mapping[int, str] = {
    0: "done, or nothing to do",
    1: "internal",
    2: "usage, settings, a revision or a name that is not there",
    3: "pending, declared without a revision, or too long for --max-estimate",
    4: "drift, or a changed revision file",
    5: "the proof failed, or two collections differ",
    6: "another process holds the lease",
    7: "needs repair, or the wrong ledger for this Qdrant",
    8: "lint",
    9: "a store is unreachable, or a server too old",
    10: "refused: needs explicit consent",
    11: "built and held: waits for qmigrate cutover",
    12: "the budget is used up, or a second look is still to come",
    130: "stopped by a signal (130, 143)",
}
#: Those that any verb may have.
_ANY = (0, 1, 2)
_STORES = (7, 9)
_CHANGING = (4, *_STORES, 6, 10, 130)
_BUILDING = (5, *_CHANGING)
#: Verb -> further codes.
_MORE: Mapping[str, tuple[int, ...]] = {
    "init": (9,),
    "revision": (*_STORES, 4, 10),
    "squash": (10,),
    "adopt": _CHANGING,
    "stamp": _CHANGING,
    "plan": (4, *_STORES, 10),
    "upgrade": (3, *_BUILDING, 11, 12),
    "rollback": (*_BUILDING, 11),
    "abort": _BUILDING,
    "cutover": _BUILDING,
    "status": (3, *_STORES),
    "history": (4, *_STORES),
    "heads": (),
    "branches": (),
    "show": (),
    "edit": (),
    "verify": (4, 5, *_STORES),
    "evaluate": (4, 5, *_STORES),
    "try-models": (4, *_STORES),
    "doctor": (4, *_STORES, 10),
    "wait": (9,),
    "check": (3, 4, *_STORES, 8, 10),
    "schema": _STORES,
    "snapshot create": (*_CHANGING,),
    "snapshot list": (4, *_STORES),
    "snapshot restore": _BUILDING,
    "snapshot delete": _CHANGING,
    "gc": _CHANGING,
    "fix sync": _BUILDING,
    "fix delete": _BUILDING,
    "fix quarantine": _BUILDING,
    "fix undo": _BUILDING,
    "fix orphans": (*_BUILDING, 12),
    "fix stats": (4, *_STORES),
    "fix reset": _BUILDING,
    "fix retrain": _BUILDING,
    "export show": (9, 10),
    "metrics": (4, *_STORES),
    "serve": (9,),
    "jobs": (9,),
    "worker": (9, 130),
    "requests list": (9,),
    "requests show": (9,),
    "requests run": _BUILDING,
    "approve": (9, 10),
    "reject": (9, 10),
    "repair": _BUILDING,
    "completion": (),
}


def codes_of(verb: str) -> list[int]:
    """The exit codes that a verb may have.

    Args:
        verb: its words: ``snapshot create``.
    """
    return sorted({*_ANY, *_MORE.get(verb, ())})


def epilog_of(verb: str) -> str:
    """The same for the end of its help; click keeps the lines."""
    return "\n".join(["\b", "Exit codes:", *(f"  {code:<4}{EXIT_CODES[code]}" for code in codes_of(verb))])
