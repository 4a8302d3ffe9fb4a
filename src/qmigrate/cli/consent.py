"""Whose consent a command line carries: what programs of AI assistants are recognised by, and the person they name."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmigrate.errors import ConfigError, RefusedError
from qmigrate.text import quote

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


@dataclass(frozen=True, slots=True)
class Request:
    """Whose request a command is, as far as it says so.

    Attributes:
        given: with ``--requested-by``; where that is None, ``QMIGRATE_REQUESTED_BY`` is read.
        typed: the arguments of the command, for the hint.
    """

    given: str | None
    typed: tuple[str, ...] = ()

    @property
    def person(self) -> str | None:
        """Who asked for it, and why: ``name: why``.

        Raises:
            ConfigError: it names no person or no reason.
        """
        source = VARIABLE if self.given is None else "--requested-by"
        said = os.environ.get(VARIABLE) if self.given is None else self.given
        if said is None:
            return None
        name, mark, why = said.partition(":")
        if not (name.strip() and mark and why.strip()) or len(said) > _LONGEST or not said.isprintable():
            raise ConfigError(
                f"{source} must say who asked for it and why, in at most {_LONGEST} printable characters, as NAME: WHY",
                hint='for example --requested-by "Kim Lee: ticket 17, the photos of a closed account"',
            )
        return f"{name.strip()}: {why.strip()}"

    def facts(self) -> dict[str, Any]:
        """What the records keep of it besides the actor: who asked, and which assistant passed it on."""
        asked, by = self.person, agent()
        if asked is None:
            return {}
        return {"requested_by": asked, **({"agent": by} if by else {})}

    def check(self, settings: Settings, params: Mapping[str, Any]) -> None:
        """See that a consent on the command line comes from a person, where that has to be said.

        Args:
            settings: ``fixes.consent`` says whether every command without a terminal has to.
            params: of the verb, as click has parsed them.

        Raises:
            RefusedError: an assistant, or with ``fixes.consent: named`` a script, agrees by itself.
        """
        consents = [option for name, option in CONSENTS.items() if params.get(name)]
        if consents and not any(params.get(name) for name in _LOOKS):
            self.require(settings, f"{' and '.join(consents)} agrees to something that can't be undone")

    def missing(self, settings: Settings) -> str | None:
        """Why a person has to be named for what can't be undone; None where that is not required, or one is named."""
        if self.person is not None:
            return None
        by = agent()
        if by is not None:
            return f"this is run by an assistant ({by}), whose own consent doesn't count"
        if settings.fixes.consent == "named" and not sys.stdin.isatty():
            return "with fixes.consent: named a command without a terminal has to say who asked for it"
        return None

    def require(self, settings: Settings, what: str) -> None:
        """See that a person is named behind what can't be undone, where that has to be said.

        Args:
            settings: see `check`.
            what: the beginning of the sentence.

        Raises:
            RefusedError: no person is.
        """
        why = self.missing(settings)
        if why is not None:
            again = " ".join(["qmigrate", *map(quote, self.typed), '--requested-by "their name: their reason"'])
            raise RefusedError(
                f"{what}, and {why}",
                hint=f"ask the person it is done for; then: {again}",
                facts={"consent": "unnamed", "agent": agent()},
            )
