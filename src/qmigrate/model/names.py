"""How generations and own aliases are named, and how such a name is recognised. It looks nothing up."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from typing import NewType, final

from qmigrate.errors import LeaseHeldError, QmigrateError, UnknownNameError
from qmigrate.text import did_you_mean

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


def generation_word(physical: str) -> str:
    """A generation for people: ``g0002``; the name of a plain collection."""
    found = GENERATION.match(physical)
    return f"g{found['number']}" if found else physical


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


#: What a text begins with that is a glob whatever is there. No name holds a colon.
FORCED = "glob:"
#: The signs of a glob.
SIGNS = frozenset("*?[")
#: Those that no name on a server holds.
_SURE = frozenset("*?")


class ExactName(str):
    """A logical name that something has: never a glob."""

    __slots__ = ()


def is_forced(pattern: str) -> bool:
    """Whether it is marked as a glob."""
    return pattern.startswith(FORCED) and not isinstance(pattern, ExactName)


def text_of(pattern: str) -> str:
    """The name or the glob, without ``glob:``."""
    return pattern[len(FORCED) :] if is_forced(pattern) else pattern


def has_signs(pattern: str) -> bool:
    """Whether it may be a glob, which only the names that there are decide."""
    return is_forced(pattern) or (not isinstance(pattern, ExactName) and not SIGNS.isdisjoint(pattern))


def has_wildcard(pattern: str) -> bool:
    """Whether it is a glob whatever exists: it is marked as one, or has a character that no name has."""
    return is_forced(pattern) or (not isinstance(pattern, ExactName) and not _SURE.isdisjoint(pattern))


def is_glob(pattern: str, known: Collection[str]) -> bool:
    """Whether it is a glob where these are all the names that there are."""
    return is_forced(pattern) or (has_signs(pattern) and pattern not in known)


def bound(pattern: str, known: Collection[str]) -> str:
    """The pattern, marked as a name where it is one."""
    return ExactName(pattern) if not is_forced(pattern) and pattern in known else pattern


def fits(name: str, pattern: str) -> bool:
    """Whether one name is meant, where no other name decides: a name means itself, a glob what it matches."""
    if isinstance(pattern, ExactName):
        return name == pattern
    return (name == pattern and not is_forced(pattern)) or (
        has_signs(pattern) and fnmatchcase(name, text_of(pattern))
    )


def met(pattern: str, names: Iterable[str], known: Collection[str] | None = None) -> list[str]:
    """The names that a pattern means, in their order.

    Args:
        pattern: a name, a glob, or ``glob:`` and a glob.
        names: to choose from.
        known: every name that there is, where `names` are only some of them: ``docs[eu]`` means no other name where
            it exists, though it may not be chosen.
    """
    chosen = list(names)
    exact = bound(pattern, known if known is not None else frozenset(chosen))
    return [name for name in chosen if fits(name, exact)]


def overlap(one: str, other: str) -> bool:
    """Whether two patterns may mean the same name, be there one or not: where in doubt, they may."""
    return any(_meet(first, second) for first in _readings(one) for second in _readings(other))


def _readings(pattern: str) -> list[list[str]]:
    """How a pattern may be read, as a name and as a glob: character by character, ``[…]`` as one that may be any."""
    name = [] if is_forced(pattern) else [[f"={sign}" for sign in pattern]]
    signs = re.findall(r"\[!?\]?[^\]]*\]|.", text_of(pattern), re.DOTALL)
    return [*name, ["?" if len(sign) > 1 else sign for sign in signs]] if has_signs(pattern) else name


def _meet(one: list[str], other: list[str]) -> bool:
    """Whether a name fits both: from their ends on, whether what is left of `one` meets each rest of `other`."""
    end = len(other)
    rests = [all(sign == "*" for sign in other[place:]) for place in range(end + 1)]
    for sign in reversed(one):
        now = [False] * (end + 1)
        for place in reversed(range(end + 1)):
            if sign == "*":
                now[place] = rests[place] or (place < end and now[place + 1])
            elif place < end and other[place] == "*":
                now[place] = rests[place] or now[place + 1]
            elif place < end:
                same = "?" in (sign, other[place]) or sign.lstrip("=") == other[place].lstrip("=")
                now[place] = same and rests[place + 1]
        rests = now
    return rests[0]


def met_by_any(patterns: Iterable[str], names: Iterable[str], known: Collection[str] | None = None) -> list[str]:
    """The names that any of the patterns means, each once, in their own order."""
    chosen = list(names)
    wanted = {name for pattern in patterns for name in met(pattern, chosen, known)}
    return [name for name in chosen if name in wanted]


#: Names that a line lists.
_LISTED = 8


def words(pattern: str, names: Collection[str]) -> str:
    """What a glob has met, in one line: ``'docs*' means 2 collections: docs_a, docs_b``."""
    listed = sorted(names)
    more = f" and {len(listed) - _LISTED:,} more" if len(listed) > _LISTED else ""
    count = "1 collection" if len(listed) == 1 else f"{len(listed):,} collections"
    return f"{pattern!r} means {count}: {', '.join(listed[:_LISTED])}{more}"


@final
class Permit:
    """Leave to delete one physical collection, for one request.

    A deletion can't be made conditional on the server, so it is asked for by this alone: the lease gives it in the
    transaction that records that the deletion has begun (``Lease.begin_deletion``), and lasts longer than the request.

    Args:
        physical: the collection.
        remaining: seconds for which no other process can take the lease.
    """

    __slots__ = ("_remaining", "_used", "physical")

    def __init__(self, physical: str, remaining: Callable[[], float]) -> None:
        self.physical = physical
        self._remaining = remaining
        self._used = False

    @classmethod
    def of_probe(cls, name: str) -> Permit:
        """For a collection that a probe of the server has made: its name is random, and no other client has it.

        Raises:
            QmigrateError: the name is not that of a probe.
        """
        if not name.startswith(PROBE_PREFIX):
            raise QmigrateError(f"{name} is not a probe's collection")
        return cls(name, lambda: math.inf)

    def use(self, seconds: float) -> str:
        """The physical name, right before the request is sent; once.

        Args:
            seconds: the longest that the request can take.

        Raises:
            LeaseHeldError: the lease may end before the request does; nothing may be sent.
            QmigrateError: it was used before.
        """
        if self._used:
            raise QmigrateError(f"the permit to delete {self.physical} was used already")
        if self._remaining() <= seconds:
            raise LeaseHeldError(
                f"{self.physical} was not deleted: too little time is left of the lease for the request",
                hint="run the same command again: it continues from here",
            )
        self._used = True
        return self.physical


#: Kind of thing -> where its names are listed.
LISTED = {
    "collection": "qmigrate status lists what is there",
    "generation": "qmigrate gc --dry-run lists what is kept, by its names",
    "snapshot": "qmigrate snapshot list shows what is there",
    "fix": "qmigrate history --deletions lists them",
    "file": "qmigrate history --deletions --json names the files of fixes; their numbers work, too",
}


def unknown(
    kind: str, given: object, known: Iterable[str] = (), *, of: str = "", hint: str | None = None
) -> UnknownNameError:
    """The error for a name, or a glob, that means nothing.

    Args:
        kind: a key of :data:`LISTED`.
        known: the names that there are, for what was probably meant.
        of: where it was looked for, if that isn't everywhere: `` in the ledger``.
    """
    glob = isinstance(given, str) and has_signs(given)
    said = f"no {kind} matches {given!r}" if glob else f"there is no {kind} {given!r}"
    said += of + did_you_mean(given, known)
    return UnknownNameError(said, hint=hint or LISTED[kind], facts={"kind": kind, "name": str(given)})


def check_known(kind: str, patterns: Iterable[str], known: Collection[str]) -> None:
    """Every pattern means something.

    Raises:
        UnknownNameError: one doesn't.
    """
    for pattern in patterns:
        if not met(pattern, known):
            raise unknown(kind, pattern, known)
