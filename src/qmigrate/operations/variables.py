"""Numbers that differ by environment: shards and replicas. They read one variable, and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from qmigrate.errors import PlanError

_WRITTEN = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*):-(\d+)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Variable(int):
    """A whole number that knows the variable that it comes from; otherwise it is that number.

    Attributes:
        name: of the environment variable.
        default: the number where it isn't set.
    """

    name: str
    default: int

    @property
    def written(self) -> str:
        """As YAML has it: ``${DOCS_SHARDS:-1}``."""
        return f"${{{self.name}:-{self.default}}}"


def variable(name: str, default: int, environ: Mapping[str, str] | None = None) -> Variable:
    """The number that an environment variable holds; for shard and replica counts, which differ by environment.

    A revision and a declaration that name the same variable say the same in every environment. What was applied is
    recorded as a number: another value later takes a revision of its own.

    Args:
        name: of the variable.
        default: where it isn't set.
        environ: instead of ``os.environ``.

    Raises:
        PlanError: the name is none, or the variable holds something else than a whole number.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PlanError(f"variable: expected the name of an environment variable, got {name!r}")
    if not isinstance(default, int) or isinstance(default, bool) or default < 0:
        raise PlanError(f"variable({name!r}): the default must be a whole number, not {default!r}")
    said = (os.environ if environ is None else environ).get(name, "").strip()
    if said and not (said.isascii() and said.isdigit()):
        raise PlanError(f"the environment variable {name} must hold a whole number, not {said!r}")
    found = Variable(said or default)
    found.name, found.default = name, int(default)
    return found


def read_variable(text: str, environ: Mapping[str, str] | None = None) -> Variable | None:
    """A number that is written as ``${NAME:-1}``; None where the text is something else.

    Raises:
        PlanError: the variable holds something else than a whole number.
    """
    found = _WRITTEN.fullmatch(text.strip())
    return variable(found[1], int(found[2]), environ) if found else None
