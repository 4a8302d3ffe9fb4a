"""Whose consent a command line carries: what programs of AI assistants are recognised by, and the person they name."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from qmigrate.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmigrate.settings.load import Settings

#: The variable that stands for ``--requested-by``.
VARIABLE = "QMIGRATE_REQUESTED_BY"
#: What assistants set for the commands that they run, and no user does: variable -> the assistant.
#: One that is also set in a person's terminal or all over a host (CURSOR_TRACE_ID, REPL_ID) doesn't belong here.
AGENTS = {
    "AI_AGENT": "",  # its value names the assistant
    "ANTIGRAVITY_AGENT": "antigravity",
    "AUGMENT_AGENT": "augment",
    "CLAUDECODE": "claude-code",
    "CODEX_CI": "codex",
    "CODEX_SANDBOX": "codex",
    "CODEX_THREAD_ID": "codex",
    "COPILOT_CLI": "copilot-cli",
    "CURSOR_AGENT": "cursor",
    "GEMINI_CLI": "gemini-cli",
    "OPENCODE": "opencode",
}
#: Options by which something is agreed to that can't be undone, or not without loss: parameter -> as typed.
CONSENTS = {"yes": "--yes", "discard_writes": "--discard-writes"}
#: With one of these nothing is done, so nothing is agreed to.
_LOOKS = ("dry_run", "check")
#: Values by which a variable says no.
_OFF = ("", "0", "false", "no", "off")
_LONGEST = 255


def agent(environ: Mapping[str, str] | None = None) -> str | None:
    """The assistant that runs this command, by the environment; None where nothing says so.

    Args:
        environ: instead of ``os.environ``.
    """
    environ = os.environ if environ is None else environ
    for variable, name in AGENTS.items():
        value = environ.get(variable, "").strip()
        if value.lower() not in _OFF:
            return name or (value if value.isprintable() else "an assistant")[:60]
    return None


def requester(given: str | None) -> str | None:
    """Whose request this is, and why: ``name: why``.

    Args:
        given: with ``--requested-by``; else ``QMIGRATE_REQUESTED_BY`` is read.

    Raises:
        ConfigError: it names no person or no reason.
    """
    source, said = ("--requested-by", given) if given is not None else (VARIABLE, os.environ.get(VARIABLE))
    if said is None:
        return None
    name, mark, why = said.partition(":")
    if not (name.strip() and mark and why.strip()) or len(said) > _LONGEST or not said.isprintable():
        raise ConfigError(
            f"{source} must say who asked for it and why, in at most {_LONGEST} printable characters, as NAME: WHY",
            hint='for example --requested-by "Kim Lee: ticket 17, the photos of a closed account"',
        )
    return f"{name.strip()}: {why.strip()}"


def facts(given: str | None) -> dict[str, Any]:
    """What the records keep of it besides the actor: who asked, and which assistant passed it on."""
    asked = requester(given)
    if asked is None:
        return {}
    by = agent()
    return {"requested_by": asked, **({"agent": by} if by else {})}


def check_named(settings: Settings, params: Mapping[str, Any], given: str | None) -> None:
    """See that a consent on the command line comes from a person, where that has to be said.

    Args:
        settings: ``fixes.consent`` says whether every command without a terminal has to.
        params: of the verb, as click has parsed them.
        given: with ``--requested-by``.

    Raises:
        RefusedError: an assistant, or with ``fixes.consent: named`` a script, agrees by itself.
    """
    consents = [option for name, option in CONSENTS.items() if params.get(name)]
    if consents and not any(params.get(name) for name in _LOOKS):
        require(settings, f"{' and '.join(consents)} agrees to something that can't be undone", given)


def unnamed(settings: Settings, given: str | None) -> str | None:
    """Why a person has to be named for what can't be undone; None where that is not required, or a person is named."""
    if requester(given) is not None:
        return None
    by = agent()
    if by is not None:
        return f"this is run by an assistant ({by}), whose own consent doesn't count"
    if settings.fixes.consent == "named" and not sys.stdin.isatty():
        return "with fixes.consent: named a command without a terminal has to say who asked for it"
    return None


def require(settings: Settings, what: str, given: str | None) -> None:
    """See that a person is named behind what can't be undone, where that has to be said.

    Args:
        settings: see `check_named`.
        what: the beginning of the sentence.
        given: with ``--requested-by``.

    Raises:
        RefusedError: no person is.
    """
    why = unnamed(settings, given)
    if why is not None:
        raise RefusedError(
            f"{what}, and {why}",
            hint='ask the person it is done for, then the same command with --requested-by "their name: their reason"',
            facts={"consent": "unnamed", "agent": agent()},
        )
