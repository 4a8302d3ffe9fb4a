"""How generations and own aliases are named, and how such a name is recognised. It looks nothing up."""

from __future__ import annotations

import re

#: A physical collection under management: ``<logical>__g0007``.
GENERATION = re.compile(r"^(?P<name>.+)__g(?P<number>\d{4,})$")
#: An alias that only a lease holder uses: ``<generation>__e<epoch>`` for writes, ``…__<n>`` for the n-th swapped name.
OWN_ALIAS = re.compile(r"^(?P<physical>.+)__e(?P<epoch>\d+)(?:__\d+)?$")


def generation_name(name: str, number: int) -> str:
    """Physical name of a generation; numbers are never reused."""
    return f"{name}__g{number:04d}"


def is_own_alias(alias: str) -> bool:
    """Whether an alias is one of qmigrate's own, not a name that anybody uses."""
    return OWN_ALIAS.match(alias) is not None
