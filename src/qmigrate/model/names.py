"""How generations and own aliases are named, and how such a name is recognised. It looks nothing up."""

from __future__ import annotations

import re
from typing import NewType

#: A physical collection under management: ``<logical>__g0007``.
GENERATION = re.compile(r"^(?P<name>.+)__g(?P<number>\d{4,})$")
#: A throwaway collection of a rehearsal: ``<logical>__r0001``.
REHEARSAL = re.compile(r"^(?P<name>.+)__r(?P<number>\d{4,})$")
#: An alias that only a lease holder uses: ``<generation>__e<epoch>`` for writes, ``…__<n>`` for the n-th swapped name.
OWN_ALIAS = re.compile(r"^(?P<physical>.+)__e(?P<epoch>\d+)(?:__\d+)?$")
#: The name of such an alias. Whatever changes a collection asks for one: once a later holder has removed it, nothing
#: that an earlier holder still sends through it does anything.
EpochAlias = NewType("EpochAlias", str)
#: Next to a shadowed plain collection ``foo``: the alias by which it is reached while the alias ``foo`` hides it.
OLD_SUFFIX = "__old"
#: Collections and aliases that only a probe of the server makes and removes again.
PROBE_PREFIX = "qmigrate_probe_"
#: What a glob has and an id of a revision may not have.
_NO_SIGNS = str.maketrans(dict.fromkeys("*?[]! @+:-", "_"))


def generation_name(name: str, number: int) -> str:
    """Physical name of a generation; numbers are never reused."""
    return f"{name}__g{number:04d}"


def rehearsal_name(name: str, number: int) -> str:
    """Physical name of a throwaway collection; each rehearsal starts with 1 again."""
    return f"{name}__r{number:04d}"


def dimension_key(collection: str, vector_name: str) -> str:
    """The id of the inline revision that ``qdrant.add_vector_dimension`` of an Alembic revision stands for."""
    return f"add_{vector_name}_to_{collection.translate(_NO_SIGNS)}"


def is_made(physical: str) -> bool:
    """Whether a physical name is one that only qmigrate gives: a generation or a throwaway of a rehearsal."""
    return GENERATION.match(physical) is not None or REHEARSAL.match(physical) is not None


def is_own_alias(alias: str, physical: str) -> bool:
    """Whether an alias is one of qmigrate's own, not a name that applications use.

    Ours says where it leads; an application's ``docs__e5``, named after a model, leads elsewhere than to ``docs``.

    Args:
        physical: what the alias points to.
    """
    match = OWN_ALIAS.match(alias)
    return match is not None and match["physical"] == physical


def own_alias(physical: str, epoch: int, part: int | None = None) -> EpochAlias:
    """The alias of a lease epoch for a physical collection; `part` distinguishes several of them."""
    return EpochAlias(f"{physical}__e{epoch}" + ("" if part is None else f"__{part}"))


def as_own(alias: str) -> EpochAlias:
    """An alias that was looked up, seen to be one of qmigrate's own.

    Raises:
        ValueError: it isn't.
    """
    if OWN_ALIAS.match(alias) is None:
        raise ValueError(f"{alias!r} is not an alias of a lease holder")
    return EpochAlias(alias)


def as_probe(alias: str) -> EpochAlias:
    """An alias that a probe of the server has made: no other client has its name either.

    Raises:
        ValueError: it isn't.
    """
    if not alias.startswith(PROBE_PREFIX):
        raise ValueError(f"{alias!r} is not an alias of a probe")
    return EpochAlias(alias)


def old_alias(name: str) -> str:
    """The alias that reaches the plain collection `name` while it is shadowed."""
    return f"{name}{OLD_SUFFIX}"


def is_internal(alias: str, physical: str) -> bool:
    """Whether a name is qmigrate's own business: own aliases, the way to a shadowed collection, probes.

    Args:
        physical: what the alias points to: ``foo__old`` and ``foo__e5`` may as well be an application's names.
    """
    return alias.startswith(PROBE_PREFIX) or is_own_alias(alias, physical) or alias == old_alias(physical)
