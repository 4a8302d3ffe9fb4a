"""One collection as the ledger left it against what Qdrant has: name, seal, schema, generations, runs. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qmigrate.drift.finding import Finding, drift, note, unfinished
from qmigrate.drift.schema import Difference, differences, lacking_replicas, restoration
from qmigrate.drift.undeclared import NOT_SET, effective
from qmigrate.errors import DriftError
from qmigrate.model.names import GENERATION, old_alias
from qmigrate.model.plan import GoLive, InPlace
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import (
    DELETING,
    Capabilities,
    CollectionState,
    Generation,
    LiveCollection,
    OpenRun,
    Seal,
    marks_of,
)
from qmigrate.observe import (
    CLOSED_LATER,
    OF_A_BACKUP,
    closed_later,
    hidden_on_several,
    hidden_since,
    is_earlier,
    is_later,
    only_where_lost,
    use_the_newer,
)
from qmigrate.operations.base import Operation
from qmigrate.operations.checks import shown
from qmigrate.planner.guard import check_checksums, check_open_run
from qmigrate.text import counted, quote

#: Phases of a go-live that change nothing for any client.
_HARMLESS = frozenset({"preflight", "hold", "converge"})
_VERSION = re.compile(r"\d+\.\d+\.\d+")
#: Fields of the seal that are compared; its own version and whatever a later one adds are not.
_SEALED = ("ledger", "collection", "generation", "revision", "checksum", "state", "embedders")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What one collection is checked with.

    Attributes:
        ledger_id: identity of the ledger.
        aliases: every alias -> physical name, qmigrate's own ones too.
        physical: names of all physical collections.
        kept: generations that are kept without serving, by physical name, as they are found.
        owners: collection that serves a name -> identity of the other ledger that has sealed it.
    """

    ledger_id: str
    capabilities: Capabilities
    aliases: Mapping[str, str] = field(default_factory=dict)
    physical: frozenset[str] = frozenset()
    kept: Mapping[str, LiveCollection] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)


def collection_findings(state: CollectionState, around: Surroundings) -> tuple[Finding, ...]:
    """Everything about one logical name that is not as recorded; pending revisions and models are left out."""
    found: list[Finding] = []
    if state.open_run is not None:
        found += _run(state.name, state.open_run)
    expected = next((row for row in state.generations if row.state == "live"), None)
    if expected is None:
        found += _nothing_expected(state, around)
    elif state.open_run is not None and _has_begun(state.open_run):
        found.append(note("run", "run", "not compared: the run has begun to change what serves", strict=False))
    elif state.live is None or state.live.physical != expected.physical:
        found += _moved(state, expected, around)
    else:
        found += _seal(state, expected, state.live, around)
        found += _schema(state, state.live, around)
    if any(one.kind == "foreign" for one in found):
        return tuple(found)
    found += _generations(state, around)
    found += _hidden(state, around)
    return tuple(found)


def expected_seal(state: CollectionState, serving: Generation, ledger_id: str) -> Seal:
    """What the seal of the serving generation has when no other client has touched it."""
    newest = state.applied[-1] if state.applied else None
    return Seal(
        ledger=ledger_id,
        collection=state.name,
        generation=serving.number,
        revision=newest.revision if newest else None,
        checksum=newest.checksum if newest else None,
        state="live",
        embedders=dict(state.embedders),
    )


def _run(name: str, run: OpenRun) -> Iterator[Finding]:
    if run.leased:
        yield unfinished("run", "run", f"{run.verb} is running on {run.host}", "qmigrate status")
    elif run.state == "held":
        yield unfinished(
            "run",
            "run",
            f"{run.verb} is built and held since {run.started_at:%Y-%m-%d}",
            f"qmigrate cutover {quote(name)}",
            f"qmigrate abort {quote(name)}",
        )
    elif run.state == "failed":
        said = f": {run.error}" if run.error else ""
        ways = ("qmigrate upgrade", f"qmigrate abort {quote(name)}")
        yield unfinished("run", "run", f"{run.verb} has failed{said}", *ways)
    else:
        yield unfinished(
            "run",
            "run",
            f"{run.verb} of {run.started_at:%Y-%m-%d %H:%M} on {run.host} was interrupted",
            "qmigrate upgrade",
            f"qmigrate abort {quote(name)}",
        )


def _has_begun(run: OpenRun) -> bool:
    """Whether an unfinished run may have changed what serves already, so that live and recorded can't be compared."""
    for record in run.records:
        step = run.job.steps[record.step] if record.step < len(run.job.steps) else None
        if isinstance(step, InPlace | GoLive) and record.phase not in _HARMLESS:
            return True
    return False


def _nothing_expected(state: CollectionState, around: Surroundings) -> Iterator[Finding]:
    if state.lost and state.kind == "absent" and state.open_run is None:
        yield note(
            "name",
            state.name,
            "nothing has the name: the loss of what served it is recorded",
            f"restore it: qmigrate snapshot list {quote(state.name)}, then "
            f"qmigrate snapshot restore {quote(state.name)} SNAPSHOT",
            f"or recreate it without points: qmigrate rollback base --only {quote(state.name)}, then "
            "qmigrate upgrade",
        )
    if state.kind == "absent" or state.open_run is not None:
        return
    seal = marks_of(state.live)
    if seal.ledger not in (None, around.ledger_id):
        # Another application's: none of this ledger's business, and nothing to adopt.
        whose = f"is under management of another ledger ({seal.ledger}), at {seal.revision}"
        yield note("foreign", state.name, whose, live=state.physical)
    elif state.managed:
        yield note(
            "unmanaged",
            state.name,
            "is recorded as taken away, and another client has recreated it",
            f"qmigrate adopt {quote(state.name)}",
            live=state.physical,
            strict=True,
        )
    else:
        yield note(
            "unmanaged",
            state.name,
            "is not under management",
            f"qmigrate adopt {quote(state.adopted_as)}",
            live=state.physical,
            strict=True,
        )


def _moved(state: CollectionState, expected: Generation, around: Surroundings) -> Iterator[Finding]:
    name = state.name
    if expected.physical not in around.physical:
        now = f"{name} is {state.physical} now" if state.live else "Qdrant has no such name"
        row = state.generation(state.physical)
        ours = row is not None and marks_of(state.live).is_of(around.ledger_id, row.number)
        accept = f"where Qdrant was restored from a backup: qmigrate adopt {quote(name)} --take-over"
        yield drift(
            "name",
            name,
            f"{expected.physical}, which served {name}, is gone; {now}",
            f"restore it: qmigrate snapshot list {quote(name)}, then qmigrate snapshot restore {quote(name)} SNAPSHOT",
            "is this the right Qdrant for this ledger? qmigrate doctor shows both",
            *([accept] if ours else ()),
            recorded=expected.physical,
            live=state.physical,
        )
        return
    restored = _of_a_backup(state, around)
    if restored is not None:
        what, *ways = restored
        yield drift("name", name, what, *ways, recorded=expected.physical, live=state.physical)
        return
    back = f"qmigrate repair --name {quote(name)}"
    foreign = marks_of(state.live).ledger != around.ledger_id
    if state.kind == "plain" and foreign:
        back = f"remove the collection {name} that another client made (save its points first), then {back}"
    found = "the name is gone" if state.live is None else f"{name} serves {state.physical}"
    yield drift(
        "name",
        name,
        f"{found}, but the ledger left it on {expected.physical}: another client moved it",
        back,
        recorded=expected.physical,
        live=state.physical,
    )


def _of_a_backup(state: CollectionState, around: Surroundings) -> tuple[str, ...] | None:
    """What is wrong, and what to do, where Qdrant or the ledger is of an earlier time; None where none is."""
    name, physical = state.name, state.physical
    if is_later(around.ledger_id, state):
        what = f"{name} serves {physical}, which this ledger sealed but does not record"
        return f"{what}: was the ledger restored from a backup?", "use the newer ledger", only_where_lost(name)
    if closed_later(state, marks_of(state.live)):
        return CLOSED_LATER.format(name=name, physical=physical), use_the_newer(name)
    if is_earlier(around.ledger_id, state):
        return OF_A_BACKUP.format(name=name, serves=physical), "use the newer state of both", only_where_lost(name)
    return None


def _seal(
    state: CollectionState, expected: Generation, live: LiveCollection, around: Surroundings
) -> Iterator[Finding]:
    wanted, seal = expected_seal(state, expected, around.ledger_id), marks_of(live)
    again = f"qmigrate repair --schema {quote(state.name)}"
    if live.seal is None:
        yield drift(
            "seal",
            "seal",
            f"{live.physical} has no seal: its metadata was rewritten, or it was deleted and recreated "
            f"(about {counted(live.points, 'point')} now)",
            f"where its points are what they were: {again}",
            f"where it was recreated: {again}, then back to what is kept (qmigrate rollback --only "
            f"{quote(state.name)} --discard-writes) or qmigrate snapshot restore {quote(state.name)} SNAPSHOT; no gc "
            "before that",
            recorded=f"revision {wanted.revision}",
        )
        return
    if seal.ledger != around.ledger_id:
        yield drift(
            "seal",
            "seal.ledger",
            f"{live.physical} is sealed by another ledger, at {seal.revision}",
            "point ledger.url at the database that recorded it",
            f"qmigrate adopt --take-over {quote(state.name)}",
            recorded=around.ledger_id,
            live=seal.ledger,
        )
        return
    for key in _SEALED:
        recorded, found = getattr(wanted, key), getattr(seal, key)
        if found != recorded:
            yield drift("seal", f"seal.{key}", _unsealed(key, seal, state), again, recorded=recorded, live=found)


def _unsealed(key: str, seal: Seal, state: CollectionState) -> str:
    if key != "revision":
        return f"the seal has another {key} than the ledger"
    if seal.revision in state.applied_revisions():
        return "the seal is at an earlier revision: was an older snapshot recovered over the collection?"
    return "the seal is at a revision that this ledger doesn't have as applied: was the ledger restored from a backup?"


def _schema(state: CollectionState, live: LiveCollection, around: Surroundings) -> Iterator[Finding]:
    if live.unknown:
        yield note(
            "schema",
            "unknown",
            f"Qdrant has settings that this version of qmigrate doesn't know: {', '.join(live.unknown)}",
            "update qmigrate: a rebuild is refused until then",
        )
    if state.declared is None:
        return
    if live.unread is not None:
        said = f"not compared, since not every shard can be asked: {live.unread}"
        yield note("schema", "settings", said, "qmigrate doctor")
        return
    yield from _replicas(state, state.declared, live, around)
    local = around.capabilities.local
    version = around.capabilities.version
    recorded = state.declared if local else effective(state, version) or state.declared
    declared = {one.path for one in differences(state.declared, live.schema, local=local)}
    changes = {(change.kind, change.name): change for change in restoration(recorded, live.schema, local=local)}
    for found in differences(recorded, live.schema, local=local):
        if found.kind == "alias.drop":
            yield note(
                "alias",
                f"alias {found.name}",
                "is a further alias that no revision declares; it moves along",
                live=live.physical,
                strict=True,
            )
        elif found.kind == "alias.add":
            yield _alias_elsewhere(state, live, found.name, around)
        else:
            change = changes[found.kind, found.name]
            restorable = change.possible_in_place() and found.kind not in LOST and found.recorded != NOT_SET
            said = "" if found.path in declared else ", and no revision declares it"
            yield drift(
                "schema",
                found.path,
                found.message + said,
                *_ways(state.name, found, restorable=restorable),
                recorded=found.recorded,
                live=found.live,
            )


def _alias_elsewhere(state: CollectionState, live: LiveCollection, alias: str, around: Surroundings) -> Finding:
    """A further alias that is gone, or leads to another collection: where that is another ledger's, it stays there."""
    holder = around.aliases.get(alias)
    words, way = f"points to {holder}" if holder else "is gone", f"qmigrate repair --schema {quote(state.name)}"
    if holder is not None and holder in around.owners:
        words += f", which is under management of another ledger ({around.owners[holder]})"
        way = "who runs that application may give it back; or give another alias in a revision: op.SetAlias"
    return drift(
        "alias", f"alias {alias}", f"the further alias {alias} {words}", way, recorded=live.physical, live=holder
    )


def _replicas(
    state: CollectionState, declared: CollectionSchema, live: LiveCollection, around: Surroundings
) -> Iterator[Finding]:
    lacking = lacking_replicas(declared, live, around.capabilities.peers)
    if lacking is not None:
        yield drift(
            "schema",
            "replicas",
            f"a shard has {counted(live.replicas or 0, 'replica')}, but replication_factor {lacking.after} is declared",
            f"make them: qmigrate repair --schema {quote(state.name)}",
            recorded=lacking.after,
            live=live.replicas,
        )


#: What no change of a schema brings back: values that are gone, or that a user wants to keep.
LOST = frozenset({"vector.add", "sparse.add", "vector.drop", "sparse.drop"})


def _ways(name: str, found: Difference, *, restorable: bool) -> tuple[str, ...]:
    accept = f'qmigrate revision --from-drift --only {quote(name)} -m "what was changed by hand"'
    if found.recorded == NOT_SET:
        return (f"accept it: {accept}", "no server can unset it again: give it a value that does no harm")
    if restorable:
        return (f"restore it: qmigrate repair --schema {quote(name)}", f"accept it: {accept}")
    if found.kind in ("vector.drop", "sparse.drop"):
        return (f"accept it: {accept}", "a later revision may drop it again")
    look, bring = f"qmigrate snapshot list {quote(name)}", f"qmigrate snapshot restore {quote(name)} SNAPSHOT"
    return (f"restore it with its values: {look}, then {bring}", f"accept it: {accept}")


def _generations(state: CollectionState, around: Surroundings) -> Iterator[Finding]:
    known = {row.physical for row in state.generations}
    for row in state.generations:
        path = f"generation {row.physical}"
        if row.state == "retired":
            yield from _way_back(state, row, around)
        elif row.state == DELETING and state.open_run is None and row.physical in around.physical:
            finish = f"finish it: qmigrate gc {quote(state.name)}"
            yield note("generation", path, "its deletion has begun", finish, live=DELETING)
        elif row.state == "building" and state.open_run is None and row.physical in around.physical:
            yield note("generation", path, "is a leftover of a run that is over", "qmigrate doctor", live="building")
    for physical in sorted(around.physical):
        match = GENERATION.match(physical)
        if match and match["name"] == state.name and physical not in known and state.open_run is None:
            yield note(
                "generation",
                f"generation {physical}",
                "has the form of a generation, and the ledger has no record of it",
                "qmigrate doctor",
                live=physical,
                strict=True,
            )


def _way_back(state: CollectionState, row: Generation, around: Surroundings) -> Iterator[Finding]:
    """What has become of a generation that is kept without serving."""
    path = f"generation {row.physical}"
    base = row.revision or "base"
    seen = around.kept.get(row.physical)
    unseen = state.hides and row.physical == state.name and around.capabilities.several
    if unseen or (seen is None and row.physical in around.physical):
        # Hidden, and no way leads to it, or to nothing else: that is a finding of its own.
        return
    if seen is None:
        yield drift(
            "generation",
            path,
            f"{row.physical}, the way back to {base}, is gone",
            *_ways_of_loss(state, row, around),
            recorded="kept",
        )
    elif (owner := seen.foreign_owner(around.ledger_id)) is not None:
        yield drift(
            "generation",
            path,
            f"{row.physical}, the way back to {base}, is under management of another ledger now ({owner})",
            "leave it to that one: it may be its way back",
            recorded=around.ledger_id,
            live=owner,
        )
    elif not _is_ours(row, seen, around):
        yield drift(
            "generation",
            path,
            f"{row.physical}, the way back to {base}, was recreated by another client: it has "
            f"about {counted(seen.points, 'point')} and {'another' if seen.seal else 'no'} seal",
            f"save what is in it, remove it, then qmigrate repair --vanished {quote(row.physical)}",
            recorded=around.ledger_id,
            live=marks_of(seen).ledger,
        )
    elif lost := sorted(row.schema.vector_names() - seen.schema.vector_names()):
        yield drift(
            "generation",
            path,
            f"{row.physical}, the way back to {base}, has lost vector {shown(lost[0])!r}: another client "
            "dropped it, and nothing goes back there while what serves has it",
            f"qmigrate snapshot list {quote(state.name)} shows what can be restored",
            recorded=lost[0],
        )


def _ways_of_loss(state: CollectionState, row: Generation, around: Surroundings) -> tuple[str, ...]:
    """None where this may be another Qdrant: the finding of the name reports it."""
    if state.may_be_elsewhere(around.physical):
        return ()
    return (f"record that it is gone: qmigrate repair --vanished {quote(row.physical)}",)


def _is_ours(row: Generation, seen: LiveCollection, around: Surroundings) -> bool:
    return marks_of(seen).is_of(around.ledger_id, row.number)


def _hidden(state: CollectionState, around: Surroundings) -> Iterator[Finding]:
    """A plain collection hidden behind the alias of its own name: servers don't document that this works."""
    name = state.name
    if not state.hides:
        return
    path = f"hidden {name}"
    if state.generation(name) is None:
        yield drift(
            "hidden",
            path,
            f"a collection {name} is hidden behind the alias {name}, and it is not recorded",
            "save what is in it, and remove it",
            live=name,
        )
        return
    if around.aliases.get(old_alias(name)) != name:
        yield drift(
            "hidden",
            path,
            f"the alias {old_alias(name)}, the only way to the collection behind the alias {name}, is gone",
            f"recreate it: POST /collections/aliases {_create_alias(old_alias(name), name)}",
            recorded=name,
            live=around.aliases.get(old_alias(name)),
        )
        return
    if around.capabilities.several:
        stop = hidden_on_several(name, around.capabilities)
        yield drift("hidden", path, stop.message, str(stop.hint), recorded=1, live=around.capabilities.peers)
        return
    then = _VERSION.search(hidden_since(state) or "")
    now = ".".join(map(str, around.capabilities.version))
    if then is not None and then.group() != now and not around.capabilities.local:
        yield drift(
            "hidden",
            path,
            f"the alias {name} hides the collection {name} since Qdrant {then.group()}, and this is {now}, which may "
            "treat it differently",
            f"qmigrate gc {quote(name)} --now --generation {quote(name)} removes the old collection alone; the alias "
            "is an ordinary one then",
            recorded=then.group(),
            live=now,
        )
        return
    yield note(
        "hidden",
        path,
        f"the collection {name} is hidden behind the alias {name} until gc",
        f"before you upgrade Qdrant itself: qmigrate gc {quote(name)} --now --generation {quote(name)}",
        live=name,
    )


def _create_alias(alias: str, physical: str) -> str:
    """The body of the request that makes or moves an alias."""
    action = {"create_alias": {"collection_name": physical, "alias_name": alias}}
    return json.dumps({"actions": [action]})


def file_findings(
    files: Mapping[str, tuple[str, str]], applied: Mapping[str, str], runs: Iterable[OpenRun]
) -> tuple[Finding, ...]:
    """Applied files that were changed or are gone, and files that an unfinished run works from.

    Args:
        files: revision -> (checksum, path) as it is now.
        applied: revision -> checksum as recorded or accepted.
        runs: unfinished ones.
    """
    found = []
    for revision, checksum in sorted(applied.items()):
        try:
            check_checksums(files, {revision: checksum})
        except DriftError as error:
            now = files[revision][0][:12] if revision in files else None
            hints = (error.hint,) if error.hint else ()
            found.append(drift("file", f"revision {revision}", error.message, *hints, recorded=checksum[:12], live=now))
    for run in runs:
        try:
            check_open_run(files, run)
        except DriftError as error:
            hints = (error.hint,) if error.hint else ()
            found.append(drift("file", f"run of {run.job.collection}", error.message, *hints))
    return tuple(found)


def embedders_of(operations: Iterable[Operation]) -> dict[str, str]:
    """Vector -> name of the embedder that fills it, after these operations of one collection in their order."""
    found: dict[str, str] = {}
    for operation in operations:
        # Whatever else fills the vector again takes the place of the embedder.
        for vector in operation.filled():
            found.pop(vector, None)
        found.update({vector: value.embedder for vector, value in operation.embeds().items()})
    return found


def fingerprint_findings(
    recorded: Mapping[str, Any],
    embedders: Mapping[str, str],
    now: Mapping[str, Mapping[str, Any]],
    broken: Mapping[str, str],
) -> Iterator[Finding]:
    """Vectors that the configured model would not fill in the same way again.

    Args:
        recorded: vector -> fingerprint of the model that filled it.
        embedders: vector -> name of its embedder.
        now: embedder -> fingerprint; those that are not configured are left out.
        broken: embedder -> why it can't be loaded.
    """
    for vector, then in sorted(recorded.items()):
        name = embedders.get(vector)
        if name is None:
            continue
        path = f"embedders.{vector or '(unnamed)'}"
        if name in broken:
            yield drift("embedder", path, f"embedder {name} can't be loaded: {broken[name]}", "qmigrate doctor")
        elif name not in now:
            yield note(
                "embedder",
                path,
                f"embedder {name}, which filled {vector or '(unnamed)'}, is not configured any more",
                "bring it back under embedders: in qmigrate.yaml before the vector is filled again",
            )
        else:
            yield from _compared(path, name, then, now[name])


def _compared(path: str, name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    for key in sorted(set(then) | set(now)):
        if then.get(key) != now.get(key):
            yield drift(
                "embedder",
                f"{path}.{key}",
                f"embedder {name} is not the model that filled the vector",
                f"give embedders.{name} in qmigrate.yaml its former {key}",
                "fill the vector again in a revision: op.Reembed(…)",
                recorded=then.get(key),
                live=now.get(key),
            )
