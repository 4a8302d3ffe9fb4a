"""Adopting: at which revision a collection that is there already stands, and the job that records it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmigrate.errors import DriftError, ForeignLedgerError, RefusedError, RepairNeededError, RevisionError
from qmigrate.model.names import GENERATION
from qmigrate.model.plan import Adopt, Closing, CollectionPlan, Job, Plan
from qmigrate.model.schema import (
    Change,
    CollectionSchema,
    JsonObject,
    changes,
    declared_differs,
)
from qmigrate.model.state import Capabilities, CollectionState, LiveCollection, Seal, World, marks_of
from qmigrate.operations.checks import effective, shown
from qmigrate.parameters.catalogue import catalogue
from qmigrate.planner.members import Link, chain
from qmigrate.planner.replaced import ends_with, unrecorded
from qmigrate.revisions.graph import Revisions
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class Fit:
    """A revision that fits, or the nearest one.

    Attributes:
        link: the revision with its recorded schema.
        differences: in words; empty where it fits.
        rivals: earlier revisions that fit as well, and whose difference is in the points, which a schema doesn't show.
    """

    link: Link
    differences: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()


def differences(live: CollectionSchema, recorded: CollectionSchema, can: Capabilities) -> tuple[str, ...]:
    """What differs, one line each: declared fields, and what is there although nothing declares it.

    Further aliases that are not declared are not a difference: they move with the collection. Local mode keeps neither
    payload indexes nor most settings, so there only vectors, names and metadata count.
    """
    found = [change for change in changes(live, recorded) if change.kind != "alias.drop"]
    if can.local:
        kept = ("vector.", "sparse.", "alias.")
        found = [change for change in found if change.kind.startswith(kept) or change.name == "metadata"]
    named = {(change.kind.split(".")[0], change.name) for change in found}
    families = (("vector", live.vectors, recorded.vectors), ("sparse", live.sparse, recorded.sparse))
    for family, present, wanted in families:
        for name in sorted(present.keys() & wanted.keys()):
            more = effective(present[name]).keys() - effective(wanted[name]).keys()
            if more & _decisive() and (family, name) not in named:
                found.append(Change(f"{family}.alter", name, wanted[name], present[name]))
    return tuple(describe_difference(change) for change in found)


def _decisive() -> frozenset[str]:
    """Undeclared fields that decide the values of a vector: the server's default is another one."""
    return frozenset({"modifier", *catalogue().decisive})


def describe_difference(change: Change) -> str:
    """A difference for people: ``payload index kind: recorded {...}, but not there``."""
    family, verb = change.kind.split(".")
    what = {"config": "setting", "index": "payload index", "sparse": "sparse vector"}.get(family, family)
    label = f"{what} {shown(change.name)}"
    if family == "alias":
        return f"{label}: recorded, but not there"
    if verb == "add":
        return f"{label}: recorded ({_value(change.after)}), but not there"
    if verb == "drop":
        return f"{label}: there ({_value(change.before)}), but not recorded"
    return f"{label}: " + "; ".join(_fields(change.before, change.after))


def best_fit(live: CollectionSchema, links: Sequence[Link], can: Capabilities) -> Fit | None:
    """The newest revision whose recorded schema fits, else the one with the fewest differences; None without any."""
    judged = [Fit(link, differences(live, link.after, can)) for link in links if link.after is not None]
    fitting = [fit for fit in judged if not fit.differences]
    if not fitting:
        return min(reversed(judged), key=lambda fit: len(fit.differences), default=None)
    newest = fitting[-1]
    rivals = [fit.link.revision.id for fit in fitting[:-1] if _changes_points(links, fit.link, newest.link)]
    return Fit(newest.link, (), tuple(rivals))


def _changes_points(links: Sequence[Link], earlier: Link, later: Link) -> bool:
    """Whether a revision behind `earlier`, up to `later`, does something to the points."""
    between = links[links.index(earlier) + 1 : links.index(later) + 1]
    for link in between:
        schema = link.before
        for _, operation in link.refs:
            if schema is None or operation.creates or operation.drops:
                return True
            if not operation.transform(schema).is_identity():
                return True
            schema = operation.apply(schema)
    return False


def _fields(before: Any, after: Any, path: str = "") -> list[str]:
    """Fields that differ: ``size 512, recorded 768``."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [f"{path or 'value'} {_value(before)}, recorded {_value(after)}".strip()]
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        name = f"{path}.{key}" if path else key
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _fields(old, new, name) if declared_differs(old, new) else []
        elif declared_differs(old, new) or (new is None and key in _decisive() and effective({key: old})):
            found.append(f"{name} {_value(old)}, recorded {_value(new)}")
    return found


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items()) or "defaults"
    return "nothing" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Target:
    """A collection to adopt.

    Attributes:
        state: what is known of the logical name; absent where it is to be made an alias.
        live: the collection that serves it, or that will.
        beside: generations of the same name that don't serve, as Qdrant reports them.
        alias: the name is to be made an alias of it.
    """

    state: CollectionState
    live: LiveCollection
    beside: tuple[LiveCollection, ...] = ()
    alias: bool = False

    @property
    def name(self) -> str:
        """The logical name."""
        return self.state.name


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a collection stands.

    Attributes:
        how: ``known`` (under management already), ``history`` (a revision fits), ``seal`` (another ledger's word is
            taken), ``baseline`` (no revision creates it: one has to be written), ``differs`` (none fits).
        links: its revisions up to the one it stands at, oldest first.
        differences: for ``differs`` with the nearest revision; for ``seal`` the drift.
        overrides: the seal that is taken over, or None.
    """

    target: Target
    how: str
    links: tuple[Link, ...] = ()
    differences: tuple[str, ...] = ()
    overrides: JsonObject | None = None

    @property
    def revision(self) -> str | None:
        """The revision it stands at, or the nearest one."""
        return self.links[-1].revision.id if self.links else None


@dataclass(frozen=True, slots=True)
class AdoptWish:
    """What the user has asked for.

    Attributes:
        take_over: whether another ledger's seal may be overridden.
        revision: for ``stamp``: where the collections stand; None to find out.
        baseline: names that a revision written for them just now describes: nothing is compared again.
    """

    take_over: bool = False
    revision: str | None = None
    baseline: Mapping[str, str] = field(default_factory=dict)


def judge(target: Target, world: World, revisions: Revisions, choice: AdoptWish) -> Verdict:
    """Find out where a collection stands.

    Raises:
        ForeignLedgerError: another ledger owns it, and ``--take-over`` was not given.
        RefusedError: a run of that ledger seems to be under way, or several revisions fit equally.
        RevisionError: the seal names a revision without a file.
        DriftError: the file of the sealed revision was changed.
    """
    seal = target.live.seal
    ours = seal is not None and Seal.of(seal).ledger == world.ledger_id and _known_seal(target, Seal.of(seal))
    if target.state.open_run is not None and not (ours and _is_in_order(target) and choice.revision is None):
        raise RepairNeededError(
            f"a run of {target.name} is not finished: {target.state.open_run.verb}",
            hint=f"qmigrate upgrade --only {quote(target.name)} finishes it, qmigrate abort "
            f"{quote(target.name)} undoes it",
        )
    override = None if ours else seal
    if override is not None:
        _check_override(target, world, Seal.of(override), choice)
        if choice.revision is None:
            return _by_seal(target, world, revisions, override)
    wanted = choice.baseline.get(target.name) or choice.revision
    if wanted is not None:
        return _at(target, world, revisions, wanted, override, compare=choice.revision is not None)
    if ours and _is_in_order(target):
        return Verdict(target, "known", chain(revisions, target.name, target.state.applied_revisions()))
    links = _all_links(target, revisions)
    fit = best_fit(target.live.schema, links, world.capabilities)
    if fit is None:
        return Verdict(target, "baseline")
    upto = tuple(chain(revisions, target.name, _closure(revisions, fit.link.revision.id)))
    if fit.rivals:
        raise _ambiguous(target, fit.link.revision.id, fit.rivals)
    return Verdict(target, "differs" if fit.differences else "history", upto, fit.differences)


def plan_adopt(verb: str, verdicts: Iterable[Verdict], gone: Iterable[CollectionState], revisions: Revisions) -> Plan:
    """The jobs that record what was found.

    Args:
        verb: ``adopt`` or ``stamp``.
        verdicts: those with something to record; others are left out.
        gone: names that leave the ledger, since their collection is adopted under another one; they come first.
        revisions: the graph.
    """
    made = [_leaving(state, revisions) for state in gone]
    made += [_job(verdict, revisions) for verdict in verdicts if verdict.how not in ("known", "differs", "baseline")]
    return Plan(
        verb=verb,
        target=tuple(sorted({verdict.revision for verdict in verdicts if verdict.revision})),
        collections=tuple(item for item in made if item.job.closes),
        checksums={revision.id: revision.checksum for revision in revisions.order()},
    )


def refuse_differences(verdicts: Sequence[Verdict], choice: AdoptWish) -> None:
    """Stop when a collection fits no revision, or not the one that was named.

    Raises:
        DriftError: listing each with that or the nearest revision and the differences.
    """
    unfit = [verdict for verdict in verdicts if verdict.how == "differs"]
    if not unfit:
        return
    lines = []
    for verdict in unfit:
        fits = f"doesn't fit revision {choice.revision}" if choice.revision else "fits no revision"
        lines.append(f"{verdict.target.name} {fits}; it differs from {verdict.revision}, the nearest one, in:")
        lines += [f"    {line}" for line in verdict.differences]
    raise DriftError(
        "\n".join(lines),
        hint="bring the collection or the revision in line; or leave it out and adopt the others by name",
        facts={one.target.name: {"nearest": one.revision, "differences": list(one.differences)} for one in unfit},
    )


def _known_seal(target: Target, seal: Seal) -> bool:
    """Whether the ledger has put this seal there, and has its revision: for this name, or when it had another."""
    run = target.state.open_run
    # A run writes the seal before it records the revision.
    coming = run.job.revisions() if run is not None else frozenset()
    recorded = seal.revision
    known = target.state.managed and recorded in (None, *target.state.applied_revisions(), *coming)
    return known or seal.collection != target.name


def _is_in_order(target: Target) -> bool:
    """Whether the ledger has it as it is: nothing is left to record."""
    row = target.state.generation(target.live.physical)
    same = marks_of(target.live).collection == target.name and row is not None and row.state == "live"
    return same and target.state.declared is not None and not target.alias


def _check_override(target: Target, world: World, seal: Seal, choice: AdoptWish) -> None:
    """Whether the seal of another ledger, or of a later state of this one, may be overridden."""
    owner = f"ledger {seal.ledger}"
    if seal.ledger == world.ledger_id:
        owner = "a later state of this ledger (was it restored from a backup?)"
    if not choice.take_over:
        raise ForeignLedgerError(
            f"{target.name} ({target.live.physical}) is sealed by {owner} at revision {seal.revision}; this "
            f"ledger is {world.ledger_id or 'new'}",
            hint="point ledger.url at the database that recorded it; only when that one is lost for good: "
            f"qmigrate adopt {quote(target.name)} --take-over",
        )
    if _is_building(target.live, world.ledger_id) and choice.revision is None:
        raise RepairNeededError(
            f"{target.name} points to {target.live.physical}, cut over by a run of {owner} that was not "
            "finished: late writes to the previous generation may not have been carried over",
            hint="finish it with that ledger. When it is lost for good: qmigrate verify compares the two generations; "
            f"point the alias to the one to keep, then qmigrate stamp REVISION --only {quote(target.name)} --take-over",
        )
    building = [one.physical for one in target.beside if _is_building(one, world.ledger_id)]
    if building:
        raise RefusedError(
            f"a run of {owner} seems to be under way: {building[0]} is being built for {target.name}",
            hint="finish or abort it there; when that ledger is lost for good, delete "
            f"{building[0]} in Qdrant, then run the command again",
        )


def _is_building(live: LiveCollection, ledger_id: str) -> bool:
    seal = marks_of(live)
    return seal.state == "building" and seal.ledger != ledger_id


def _by_seal(target: Target, world: World, revisions: Revisions, overrides: JsonObject) -> Verdict:
    """Take the word of the overridden ledger: its revision, if the file is still the one it applied."""
    seal = Seal.of(overrides)
    sealed = str(seal.revision)
    known = {revision.id: revision for revision in revisions.order()}
    squashed = revisions.squashed() if revisions.is_gone(sealed) else ()
    whole = next((one for one in squashed if ends_with(one, sealed, target.name, revisions)), None)
    if whole is not None:
        # The last of what was squashed: the collection has all of it.
        return _at(target, world, revisions, whole.id, overrides, compare=False)
    if sealed not in known:
        raise RevisionError(
            f"{target.name} is sealed at revision {sealed}, and no file has that id",
            hint="bring the file back (is this the right scripts folder and branch?); where it is lost for good: "
            f"qmigrate revision --from-live {quote(target.name)} --rev-id {quote(sealed)}, "
            f"then qmigrate stamp {quote(sealed)} --only {quote(target.name)} --take-over",
        )
    found = known[sealed]
    if seal.checksum not in (None, found.checksum):
        raise DriftError(
            f"{found.path.name} was changed after it was applied to {target.name} (sealed "
            f"{str(seal.checksum)[:12]}, now {found.checksum[:12]})",
            hint="restore the file; if the change is intended, and the schema matches it: "
            f"qmigrate stamp {quote(sealed)} --only {quote(target.name)} --take-over",
        )
    return _at(target, world, revisions, sealed, overrides, compare=False)


def _at(
    target: Target, world: World, revisions: Revisions, wanted: str, seal: JsonObject | None, *, compare: bool
) -> Verdict:
    """The verdict for a revision that is given."""
    revision = revisions.get(wanted)
    links = chain(revisions, target.name, _closure(revisions, revision.id))
    recorded = links[-1].after if links else None
    if recorded is None:
        raise RefusedError(
            f"no revision up to {revision.id} creates {target.name}, so it can't be at that revision",
            hint=f"qmigrate adopt {quote(target.name)} finds the revision that fits, or writes one",
        )
    found = differences(target.live.schema, recorded, world.capabilities)
    if found and compare:
        return Verdict(target, "differs", links, found)
    same = [link.revision.id for link in links] == list(target.state.applied_revisions())
    if compare and same and seal is None and _is_in_order(target):
        return Verdict(target, "known", links)
    return Verdict(target, "seal" if seal is not None else "history", links, found, seal)


def _all_links(target: Target, revisions: Revisions) -> tuple[Link, ...]:
    """Every revision that is about the collection, each with the schema recorded along its own ancestors."""
    found = []
    for revision in revisions.standing():
        links = chain(revisions, target.name, _closure(revisions, revision.id))
        if links and links[-1].revision.id == revision.id:
            found.append(links[-1])
    return tuple(found)


def _closure(revisions: Revisions, revision: str) -> frozenset[str]:
    return revisions.ancestors(revision) | {revision}


def _ambiguous(target: Target, newest: str, rivals: tuple[str, ...]) -> RefusedError:
    named = ", ".join((*rivals, newest))
    return RefusedError(
        f"{target.name} fits several revisions ({named}): they have the same schema and differ in what they do to "
        "the points, which can't be seen from outside",
        hint=f"choose one: qmigrate stamp {quote(newest)} --only {quote(target.name)}, or {rivals[-1]}",
        facts={"fits": [*rivals, newest]},
    )


def _job(verdict: Verdict, revisions: Revisions) -> CollectionPlan:
    target, state = verdict.target, verdict.target.state
    step = Adopt(
        target=target.live.physical,
        number=number_of(target),
        alias=target.alias,
        overrides=verdict.overrides,
        beside=_kept_beside(verdict),
        embedders=dict(Seal.of(verdict.overrides).embedders or {}),
        report=_report(verdict),
    )
    closes = unrecorded(_closes(state, verdict.links), state, revisions)
    job = Job(state.name, state.basis(), (step,), closes)
    if not job.closes:
        # At the same revisions, but without a seal, or on another collection than recorded: recorded again.
        job = Job(state.name, state.basis(), (step,), _stamps(verdict.links[-1:]))
    lines = [f"{link.revision.id}  {link.revision.doc}" for link in verdict.links]
    return CollectionPlan(job=job, lines=tuple(lines), reasons=(), points=target.live.points)


def _report(verdict: Verdict) -> JsonObject:
    found: JsonObject = {"how": verdict.how}
    if verdict.overrides is not None:
        found["take_over"] = {key: verdict.overrides.get(key) for key in ("ledger", "revision", "generation")}
    if verdict.differences:
        found["drift"] = list(verdict.differences)
    return found


def number_of(target: Target) -> int:
    """The generation number: of its name when qmigrate has made it, else 0, which no new generation gets."""
    physical, rows = target.live.physical, target.state.generations
    match = GENERATION.match(physical)
    if match and match["name"] == target.name:
        return int(match["number"])
    known = next((row.number for row in rows if row.physical == physical), None)
    if known is not None:
        return known
    return target.state.next_number if any(row.number == 0 for row in rows) else 0


def _kept_beside(verdict: Verdict) -> dict[str, int]:
    """Other generations of the ledger that is taken over; what another client made is not ours."""
    owner = Seal.of(verdict.overrides).ledger
    kept = {}
    for one in verdict.target.beside:
        seal = marks_of(one)
        if owner is not None and (seal.ledger, seal.collection) == (owner, verdict.target.name):
            kept[one.physical] = seal.generation or 0
    return kept


def _closes(state: CollectionState, links: Sequence[Link]) -> tuple[Closing, ...]:
    """History rows from where the record and the revisions part: what is too much goes, what is missing comes."""
    applied, wanted = list(state.applied_revisions()), [link.revision.id for link in links]
    common = 0
    while common < min(len(applied), len(wanted)) and applied[common] == wanted[common]:
        common += 1
    entries = {entry.revision: entry for entry in state.applied}
    gone = [name for name in reversed(applied[common:]) if name not in wanted]
    declared = links[common - 1].after if common else None
    taken = tuple(Closing(0, name, "unstamp", entries[name].checksum, declared, None) for name in gone)
    return (*taken, *_stamps(links[common:]))


def _stamps(links: Sequence[Link]) -> tuple[Closing, ...]:
    return tuple(
        Closing(0, link.revision.id, "stamp", link.revision.checksum, link.after, link.before) for link in links
    )


def _leaving(state: CollectionState, revisions: Revisions) -> CollectionPlan:
    """A name that was under management and whose collection is adopted under another one."""
    links = chain(revisions, state.name, {revision.id for revision in revisions.order()})
    applied = state.applied_revisions()
    last = [link for link in links if link.revision.id not in applied and link.after is None]
    job = Job(state.name, state.basis(), (Adopt(target=None, report={"how": "renamed"}),), _stamps(last[-1:]))
    return CollectionPlan(job=job, lines=(f"{state.name} leaves the ledger",), reasons=())
