"""Asking before something is changed or deleted: once, on a terminal, after it was shown. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from qmigrate.cli.shell import Shell
    from qmigrate.errors import RefusedError


def ask(
    shell: Shell,
    question: str,
    *,
    refusal: RefusedError,
    otherwise: str,
    lines: Callable[[], Iterable[Text | str]] = tuple,
) -> None:
    """Show `lines`, then ask; without a terminal, `refusal` is raised instead.

    Args:
        question: answered with yes or no.
        refusal: raised where no user can answer.
        otherwise: the message after a no.
        lines: made only where they are shown.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.errors import RefusedError

    if not shell.may_ask:
        raise refusal
    console = shell.console(stderr=True)
    for line in lines():
        console.print(line)
    if not shell.confirm(question):
        raise RefusedError(otherwise)
