"""The environment of the templates: numbers, sizes, times and plain texts as pages show them. It reads no request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qmigrate import text
from qmigrate.ledger.job_queue import QueuedJob

#: What stands for a value that isn't known.
NOTHING = "–"
#: Letters of a value that stands in a line.
_LONG = 120


def environment() -> Environment:
    """Templates that escape everything, and fail on a name that isn't given."""
    made = Environment(
        loader=PackageLoader("qmigrate.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        # The files of an installation stay as they are.
        auto_reload=False,
    )
    made.tests["a_command"] = is_command
    made.filters.update(
        number=number, signed=signed, size=size, took=took, rate=rate, share=share, ago=ago, moment=moment, clock=clock,
        iso=iso, about=about, as_moment=as_moment, parted=parted, words=words,
        counted=text.counted, state=state, pretty=pretty, quote=text.quote, short=short,
    )
    return made


#: A hint that is a command from the first word to the last, with nothing said about it behind.
_QUOTED = r"'[^']*'|\"[^\"]*\""
_WORD = rf"(?:{_QUOTED}|[a-z]+(?=$| \S*[^a-z\s:;,]\S*(?<![:;,])(?: |$))|--?[a-z][\w-]*|\S*[^a-z\s:;,]\S*(?<![:;,]))"
_COMMAND = re.compile(rf"(?:qmigrate|alembic|pip)(?: {_WORD})+")


#: Names of collections look like words of a sentence, but not behind these.
_NAMING = re.compile(r"qmigrate (?:abort|cutover) [\w.-]+")


def is_command(line: str) -> bool:
    """Whether a line of a hint can be pasted as it stands; in doubt it can't."""
    return any(one.fullmatch(line.strip()) is not None for one in (_COMMAND, _NAMING))


def _shown(value: Any) -> Any:
    """Nothing turns the direction of writing on a page, or hides in it: titles and reasons hold what others wrote."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return text.visible(value)
    return NOTHING if value is None else value


def number(value: float | None) -> str:
    """``12,030``."""
    return NOTHING if value is None else text.number(value)


def signed(value: float | None) -> str:
    """``+12,030``, ``−3``, ``0``."""
    if value is None:
        return NOTHING
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{text.number(abs(value))}"


def size(value: int | None) -> str:
    """``1.3 GB``."""
    return NOTHING if value is None else text.size(value)


def took(seconds: float | None) -> str:
    """``1 min 12 s``."""
    return NOTHING if seconds is None else text.took(max(0.0, seconds))


def rate(per_second: float | None) -> str:
    """``1,910/s``."""
    return NOTHING if per_second is None else text.rate(per_second)


def share(percent: float | None) -> str:
    """``61 %``, ``99.9 %``: never 100 before it is."""
    if percent is None:
        return NOTHING
    return f"{percent:.0f} %" if percent in (0, 100) or percent < 99 else f"{int(percent * 10) / 10:.1f} %"


def moment(value: datetime | None) -> str:
    """``2025-11-21 14:02 UTC``: in the zone of the server, which is named, since readers are in others."""
    return NOTHING if value is None else f"{text.moment(value)} {text.zone(value)}"


def as_moment(value: str | None) -> datetime | None:
    """A time that is a text; None where it is none, which is shown as it is."""
    try:
        return None if value is None else text.aware(datetime.fromisoformat(value))
    except ValueError:
        return None


def clock(value: datetime) -> str:
    """``14:02:11``, in the zone of :func:`moment`."""
    return f"{text.aware(value).astimezone():%H:%M:%S}"


def iso(value: datetime) -> str:
    """For programs: the attribute of `<time>`."""
    return text.aware(value).astimezone(UTC).isoformat(timespec="seconds")


def ago(value: datetime | None, now: datetime) -> str:
    """``3 min ago``, ``in 7 d``, ``now``."""
    if value is None:
        return NOTHING
    seconds = (now - text.aware(value)).total_seconds()
    if abs(seconds) < 1:
        return "now"
    whole = text.took(abs(seconds))
    # Seconds of minutes come and go while a person reads.
    shown = " ".join(whole.split(" ")[:2]) if abs(seconds) < 3600 else whole
    return f"{shown} ago" if seconds > 0 else f"in {shown}"


def short(value: Any) -> str:
    """A value of a payload in one line of at most 120 letters."""
    said = value if isinstance(value, str) else json.dumps(text.to_plain(value), ensure_ascii=False)
    shown = " ".join(said.split())
    return shown if len(shown) <= _LONG else f"{shown[:_LONG]}…"


def about(job: QueuedJob) -> str:
    """What a job is about, in a word."""
    given = job.arguments
    names = given.get("names") or given.get("only") or [given.get("collection")]
    named = ("value", "path_prefix", "session", "request", "log", "target")
    found = [given.get(name) for name in named if given.get(name) is not None]
    return " ".join(str(one) for one in [*found[:1], *names] if one is not None)


def parted(line: str) -> tuple[str, str]:
    """What a fix is for, and its command: ``restore it:``, ``qmigrate repair docs``. Either may be empty."""
    if is_command(line):
        return "", line.strip()
    why, colon, typed = line.partition(": ")
    return (f"{why}:", typed.strip()) if colon and is_command(typed) else (line, "")


def words(value: Any) -> Any:
    """A value of a schema without brackets and quotes: ``type keyword, is_tenant true``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list | tuple):
        return ", ".join(str(words(one)) for one in value)
    return json.dumps(value) if isinstance(value, bool) else value


def pretty(value: Any) -> str:
    """Plain JSON over several lines."""
    return json.dumps(text.to_plain(value), indent=2, ensure_ascii=False, sort_keys=True)


#: State of a collection, a run, a job, a request -> how a page shows it. Colours carry no meaning alone: the word is
#: always there. Red is for users who are hurt, and for nothing else.
_LOOKS = {
    "ready": "good", "done": "good", "completed": "good", "live": "good", "approved": "good", "go": "good",
    "running": "busy", "processing": "busy", "pending": "busy",
    "held": "wait", "drift": "wait", "interrupted": "wait", "failed": "wait", "stale": "wait", "refused": "wait",
    "rejected": "wait", "expired": "wait", "moved": "wait", "ended": "wait", "no-go": "wait",
    "down": "bad",
}


def state(word: str) -> str:
    """The class of a badge."""
    return _LOOKS.get(word, "plain")
