"""repair: what a user did by hand is put back or recorded, and nothing else is touched."""

from __future__ import annotations

import sqlite3

import pytest
from tests.harness import ADD, CREATE, INDEX, Deployment, by_hand
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain

from qmigrate.commands import drift, repair, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import NotFoundError, QmigrateError, RefusedError, RepairNeededError
from qmigrate.model.names import old_alias
from qmigrate.model.schema import Change, CollectionSchema

OTHER = CollectionSchema(vectors={"x": {"size": 4, "distance": "Dot"}})


@pytest.fixture
def made(deployment):
    """A collection at its third revision: two ways back are kept."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(20)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    deployment.revise("0003", ADD.replace('"b"', '"c"'))
    upgrade.upgrade(deployment.settings())
    return deployment


def changed(made: Deployment, change) -> None:
    """Another client's change, with the names of the deployment."""
    store = made.store()
    try:
        change(store, made.name)
    finally:
        store.close()


def aliases(made: Deployment) -> dict[str, str]:
    """Of the deployment, own ones too."""
    store = made.store()
    try:
        return {name: target for name, target in store.aliases().items() if name.startswith(made.name)}
    finally:
        store.close()


def states(made: Deployment) -> dict[str, str]:
    """Physical name -> state of every generation, as the ledger has it."""
    from qmigrate.ledger import Ledger

    ledger = Ledger.open(made.ledger_url)
    try:
        return {row.physical.replace(made.name, "NAME"): row.state for row in ledger.generations(made.name)}
    finally:
        ledger.close()


def repairs(made: Deployment) -> list[tuple[str, str, str | None]]:
    """(strategy, revision, physical) of what repair has recorded, newest first."""
    rows = status.history(made.settings(), made.name).rows
    return [(row.strategy, row.revision, row.physical) for row in rows if row.direction == "repair"]


def removed(store, name: str) -> None:
    """The alias is deleted."""
    store.drop_alias(name)


def moved(store, name: str) -> None:
    """The alias leads to an earlier generation."""
    store.drop_alias(name)
    store.create_alias(name, f"{name}__g0001")


def moved_elsewhere(store, name: str) -> None:
    """The alias leads to an unknown collection."""
    store.create_collection(f"{name}_other", OTHER, seal=None)
    store.drop_alias(name)
    store.create_alias(name, f"{name}_other")


def test_a_plan_that_was_carried_out_is_no_answer_while_the_name_is_elsewhere(made):
    """`upgrade --plan` of a plan whose jobs are done checks the names, too."""
    made.revise("0004", INDEX)
    saved = str(made.root / "plan.json")
    assert call(made.root, "plan", "--out", saved).code == 0
    assert call(made.root, "upgrade", "--plan", saved).code == 0
    assert call(made.root, "upgrade", "--plan", saved).code == 0
    changed(made, moved)
    said = call(made.root, "upgrade", "--plan", saved)
    assert (said.code, f"qmigrate repair --name {made.name}" in said.err) == (7, True), said.text


BY_HAND = [removed, moved, moved_elsewhere]


@pytest.mark.parametrize("change", BY_HAND, ids=lambda change: change.__name__)
@pytest.mark.parametrize("pending", [False, True], ids=["nothing pending", "pending"])
def test_a_name_that_somebody_moved_is_never_nothing_to_do(made, change, pending):
    """plan, upgrade, rollback and a dry run: exit 7 with the command that puts it back; check, status and doctor, too."""
    changed(made, change)
    if pending:
        made.revise("0004", INDEX)
    wanted = f"qmigrate repair --name {made.name}"
    verbs = (("plan",), ("upgrade",), ("upgrade", "--dry-run"), ("upgrade", "--only", made.name))
    for args in (*verbs, ("rollback", "0003"), ("rollback", "0002"), ("rollback", "0002", "--dry-run")):
        said = call(made.root, *args)
        assert (said.code, wanted in said.err) == (7, True), f"{args}: {said.text}"
    assert made.row().next_command == wanted
    assert wanted in call(made.root, "check", "--only", made.name).out
    assert wanted in call(made.root, "doctor", "--json").out


@pytest.mark.parametrize("change", BY_HAND, ids=lambda change: change.__name__)
def test_a_name_is_put_back_and_recorded(made, change):
    """The recorded generation serves again with all of its points; the history says who did what, and nothing is left."""
    before, names, there = made.contents(), aliases(made), states(made)
    changed(made, change)
    with pytest.raises(RefusedError, match="needs consent"):
        _refuse(made)
    result = repair.name(made.settings(), made.name)
    assert f"{made.name}__g0003" in result.detail
    assert (made.contents(), aliases(made), states(made)) == (before, names, there)
    assert repairs(made) == [("name", "0003", f"{made.name}__g0003")]
    assert made.row().state == "ready"
    assert call(made.root, "upgrade").code == 0
    assert "nothing to do" in repair.name(made.settings(), made.name).detail
    back.rollback(made.settings(), "0002")
    assert made.row().revision == "0002"


def _refuse(made: Deployment) -> None:
    def disagree(plan) -> None:
        raise RefusedError("needs consent")

    before = aliases(made)
    try:
        repair.name(made.settings(), made.name, agreed=disagree)
    finally:
        assert aliases(made) == before


def test_a_collection_that_somebody_made_under_the_name_is_left_alone(made):
    """Its points belong to a user: they are saved and removed by a person, then the name is put back."""

    def made_again(store, name):
        store.drop_alias(name)
        store.create_collection(name, OTHER, seal=None)

    changed(made, made_again)
    with pytest.raises(RepairNeededError, match="another client made"):
        repair.name(made.settings(), made.name)
    assert call(made.root, "upgrade").code == 7
    changed(made, lambda store, name: store.drop_collection(by_hand(name)))
    repair.name(made.settings(), made.name)
    assert made.row().state == "ready"


def test_a_name_whose_generation_is_gone_is_not_put_back(made):
    """Nothing is guessed: the message names how it is restored."""
    changed(made, lambda store, name: store.drop_collection(by_hand(f"{name}__g0003")))
    with pytest.raises(RepairNeededError, match="not in Qdrant any more") as refused:
        repair.name(made.settings(), made.name)
    assert "snapshot restore" in str(refused.value.hint)
    assert call(made.root, "upgrade").code == 7


def test_only_names_under_management_are_put_back(made):
    """A name that the ledger doesn't have is not found; one with an unfinished run waits for that."""
    with pytest.raises(NotFoundError, match="there is no collection"):
        repair.name(made.settings(), f"{made.name}x")


@pytest.mark.server
def test_a_hidden_name_is_put_back(qdrant_server, tmp_path):
    """The alias in front of a plain collection is removed, so that the old points serve again: put back as it was."""
    from tests.conftest import clean

    made = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2},
        f"sqlite:///{tmp_path}/ledger.db",
    )
    plain(made)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    before, names = made.contents(), aliases(made)
    assert old_alias(made.name) in names
    changed(made, removed)
    assert call(made.root, "upgrade").code == 7
    repair.name(made.settings(), made.name)
    assert (made.contents(), aliases(made)) == (before, names)
    clean(made)


@pytest.mark.parametrize("lost", ["__g0001", "__g0002"])
def test_the_loss_of_one_way_back_is_recorded_and_the_other_is_kept(made, lost):
    """What check, status and doctor advise records just the loss: every other generation is there and kept."""
    physical = made.name + lost
    changed(made, lambda store, _: store.drop_collection(by_hand(physical)))
    wanted = f"qmigrate repair --vanished {physical}"
    assert made.row().next_command == wanted
    assert wanted in call(made.root, "doctor", "--json").out
    said = call(made.root, "check", "--only", made.name)
    assert (said.code, wanted in said.out, "--now" in said.out) == (4, True, False)
    there = states(made)
    assert call(made.root, *wanted.split()[1:]).code == 0
    assert states(made) == {**there, f"NAME{lost}": "gone"}
    assert repairs(made) == [("vanished", "0003", f"{made.name}__g0003")]
    assert call(made.root, "check", "--only", made.name).code == 0
    assert made.row().state == "ready"
    if lost == "__g0001":
        back.rollback(made.settings(), "0002")
        assert made.row().revision == "0002"


def test_the_loss_of_what_is_there_is_not_recorded(made):
    """A generation that is in Qdrant, serves, or has no owner: refused, and the ledger stays as it is."""
    there = states(made)
    for generation, kind, words in (
        (f"{made.name}__g0001", RefusedError, "is in Qdrant"),
        (f"{made.name}__g0003", RefusedError, "is in Qdrant"),
        (f"{made.name}__g0009", NotFoundError, "no generation"),
        (made.name, NotFoundError, "no generation"),
    ):
        with pytest.raises(kind, match=words):
            repair.vanished(made.settings(), generation)
    assert states(made) == there


def test_what_served_and_was_deleted_can_be_recorded_as_lost(made):
    """A collection that a user deleted on purpose: recorded, never recreated, and blocking nothing."""

    def deleted(store, name):
        store.drop_collection(by_hand(f"{name}__g0003"))

    changed(made, deleted)
    made.revise("0004", INDEX)
    assert call(made.root, "upgrade").code == 7
    repair.vanished(made.settings(), f"{made.name}__g0003")
    assert states(made)["NAME__g0003"] == "gone"
    said = call(made.root, "upgrade")
    assert said.code == 0, said.text
    assert made.name not in aliases(made)


def test_a_repair_that_was_interrupted_is_finished(made, monkeypatch):
    """Stopped between the move and its record: the next one records it, and so does an upgrade."""
    from qmigrate.engine import repair as steps

    changed(made, removed)
    with monkeypatch.context() as patch:

        def stop(*_):
            raise QmigrateError("stopped here")

        patch.setattr(steps, "read_back", stop)
        with pytest.raises(QmigrateError, match="stopped here"):
            repair.name(made.settings(), made.name)
    assert made.row().state == "failed"
    assert "interrupted" in repair.name(made.settings(), made.name).detail
    assert repairs(made) == [("name", "0003", f"{made.name}__g0003")]
    assert made.row().state == "ready"


def test_verify_names_the_vectors_that_it_does_not_compare(made):
    """Generations of different revisions are equal in what both have, and no more than that is reported."""
    said = call(made.root, "verify", made.name, f"{made.name}__g0001")
    assert (said.code, "not compared, since only one of the two has it: vector b, c" in said.out) == (0, True), said.text
    assert call(made.root, "verify", made.name, f"{made.name}__g0001", "--json").json["data"]["not_compared"] == ["b", "c"]


# --- two applications, a ledger each, one Qdrant ---------------------------------------------------------------------


@pytest.fixture
def two(made, tmp_path):
    """Another application next to `made`, with a ledger of its own and a collection that is not adopted."""
    mine = Deployment(
        tmp_path / "mine", made.qdrant, f"sqlite:///{tmp_path}/mine.db", name=f"{made.name}_mine"
    )
    mine.revise("0001", CREATE)
    upgrade.upgrade(mine.settings())
    changed(mine, lambda store, name: store.create_collection(f"{name}_free", OTHER, seal=None))
    return made, mine


def whole(made: Deployment) -> dict:
    """Every collection of the other application with its seal, and every alias."""
    store = made.store()
    try:
        physical = [name for name in store.physical_names() if name.startswith(f"{made.name}__")]
        return {name: (store.describe(name).seal, store.count(name)) for name in physical}
    finally:
        store.close()


def test_what_another_ledger_has_sealed_is_foreign_and_nothing_to_do(two):
    """status, check and doctor of one application name the other's collections as foreign, and advise nothing."""
    other, mine = two
    rows = {row.name: row for row in status.status(mine.settings()).collections}
    row = rows[other.name]
    assert (row.state, row.next_command) == ("foreign", None)
    for flags in ((), ("--strict",)):
        said = call(mine.root, "check", *flags, "--only", other.name, "--json")
        (found,) = [one for one in said.json["data"]["collections"] if one["name"] == other.name]
        assert [(one["kind"], one["severity"], one["fixes"]) for one in found["findings"]] == [("foreign", "note", [])]
        assert said.code == 0
    doctor = call(mine.root, "doctor", "--json")
    sizes = ("RAM", "disk")
    every = [one for one in doctor.json["data"]["checks"] if one["name"] not in sizes]
    about = [one for one in every if other.name + "__" in str(one) or one["name"] == "foreign"]
    assert {one["name"] for one in about} == {"foreign", "foreign generations"}
    assert all(one["ok"] is None for one in about)
    assert doctor.code == 0, doctor.text


def test_a_glob_adopts_nothing_of_another_ledger(two):
    """A glob takes what has no owner, and names what it leaves alone; by its name it is refused."""
    other, mine = two
    before = whole(other)
    said = call(mine.root, "adopt", f"{other.name}*")
    assert said.code == 0, said.text
    assert "another ledger" in said.text
    assert other.name not in {row.name for row in status.status(mine.settings()).collections if row.state == "ready"}
    assert mine.row().state == "ready"
    assert whole(other) == before
    assert call(mine.root, "adopt", other.name).code == 7
    assert call(mine.root, "adopt", f"{other.name}_m*", "--take-over", "--dry-run").code == 0


def test_leftovers_of_another_ledger_are_left(two):
    """An own alias of the other application stays, although this ledger has held a lease of that very name."""
    other, mine = two
    changed(other, lambda store, name: store.create_alias(f"{name}__g0003__e1", f"{name}__g0003"))
    from qmigrate.commands.session import session

    with session(mine.settings(), writes=True) as opened:
        for _ in range(3):
            with opened.ledger.hold(other.name, timeout=5):
                pass
    before = aliases(other)
    repair.leftovers(mine.settings())
    assert aliases(other) == before
    repair.leftovers(other.settings())
    assert f"{other.name}__g0003__e1" not in aliases(other)


def test_gc_of_another_application_removes_nothing(two):
    """Neither gc nor an upgrade of one application touches the other's generations."""
    other, mine = two
    before = whole(other)
    assert call(mine.root, "gc", "--now", "--yes").code == 0
    mine.revise("0002", INDEX.replace("{name}", "*"))
    assert call(mine.root, "upgrade").code == 0
    assert whole(other) == before
    assert call(other.root, "check", "--only", other.name).code == 0


def test_what_another_ledger_has_taken_over_is_its_own(made, tmp_path):
    """Check advises to remove nothing of it, and putting a name back doesn't say that all is in order."""
    mine = Deployment(tmp_path / "mine", made.qdrant, f"sqlite:///{tmp_path}/mine.db", name=made.name)
    for number, body in (("0001", CREATE), ("0002", ADD), ("0003", ADD.replace('"b"', '"c"'))):
        mine.revise(number, body)
    assert call(mine.root, "adopt", made.name, "--take-over").code == 0
    said = call(made.root, "check", "--only", made.name)
    assert (said.code, "remove" in said.out, "--vanished" in said.out) == (4, False, False), said.out
    assert "leave it to that one" in said.out
    assert call(made.root, "repair", "--name", made.name, "--yes").code == 7


def test_a_further_alias_that_another_ledger_has_is_not_taken_back(two):
    """Check reports whose it is, and repair --schema leaves it where it is."""
    other, mine = two
    changed(mine, lambda store, name: store.create_alias(f"{name}_search", f"{name}__g0001"))
    mine.revise("0002", 'def upgrade():\n    return [op.SetAlias("{name}_search", "{name}")]\n')
    assert call(mine.root, "upgrade").code == 0

    def taken(store, name):
        store.drop_alias(f"{name}_search")
        store.create_alias(f"{name}_search", f"{other.name}__g0003")

    changed(mine, taken)
    said = call(mine.root, "check", "--only", mine.name)
    assert (said.code, "repair --schema" in said.out, "another ledger" in said.out) == (4, False, True), said.out
    assert call(mine.root, "repair", "--schema", mine.name, "--yes").code == 10
    assert aliases(other)[f"{mine.name}_search"] == f"{other.name}__g0003"


# --- what serves is not what the ledger left there ---------------------------------------------------------------------


def made_again(store, name):
    """Another client deletes what serves and recreates it, under the same names and without a point."""
    schema = store.describe(f"{name}__g0003").schema.with_(aliases=())
    store.drop_collection(by_hand(f"{name}__g0003"))
    store.create_collection(f"{name}__g0003", schema, seal=None)
    store.create_alias(name, f"{name}__g0003")


def recovered(store, name):
    """The seal of what serves is that of an earlier generation: the snapshot of that one was recovered there."""
    seal = store.describe(name).seal
    store.write_seal(name, {**seal, "generation": 2, "revision": "0002"})


@pytest.mark.parametrize("change", [made_again, recovered], ids=lambda change: change.__name__)
def test_what_serves_without_its_seal_is_never_nothing_to_do(made, change):
    """Every verb that changes something stops with 7, the last complete generations stay, and a human decides."""
    changed(made, change)
    there = states(made)
    wanted = f"qmigrate check --only {made.name}"
    for args in (
        ("plan",),
        ("upgrade",),
        ("rollback", "0002"),
        ("rollback", "0002", "--carry-writes"),
        ("fix", "delete", made.name, "--id", "1", "--reason", "r", "--yes", "--expect", "1"),
        ("revision", "--from-drift"),
        ("doctor",),
    ):
        said = call(made.root, *args)
        assert (said.code, wanted in " ".join(said.text.split())) == (7, True), f"{args}: {said.text}"
    assert (made.row().state, made.row().next_command) == ("failed", wanted)
    said = call(made.root, "gc", made.name, "--now", "--yes")
    assert (said.code, "seal" in said.text) == (7, True), said.text
    assert states(made) == there
    found = call(made.root, "check", "--only", made.name)
    assert found.code == 4
    assert f"qmigrate repair --schema {made.name}" in found.out
    assert call(made.root, "repair", "--schema", made.name, "--yes").code == 0
    assert call(made.root, "upgrade").code == 0
    assert ends(made) == {None}


def moved_to_alike(store, name):
    """The alias leads to another client's collection, with the schema of the first revision."""
    schema = store.describe(f"{name}__g0001").schema.with_(aliases=())
    store.create_collection(f"{name}_other", schema, seal=None)
    store.drop_alias(name)
    store.create_alias(name, f"{name}_other")


@pytest.mark.parametrize("change", [made_again, moved_to_alike], ids=lambda change: change.__name__)
def test_what_is_adopted_in_the_place_of_another_collection_is_said(made, change):
    """The earlier points stay until a human decides otherwise, whatever their holdover was."""
    changed(made, change)
    said = call(made.root, "adopt", made.name)
    assert (said.code, "another client has moved or recreated it" in said.text) == (0, True), said.text
    assert ends(made) == {None}


def ends(made: Deployment) -> set:
    """When the holdovers of what is kept end."""
    from qmigrate.ledger import Ledger

    ledger = Ledger.open(made.ledger_url)
    try:
        return {row.held_until for row in ledger.generations(made.name) if row.state == "retired"}
    finally:
        ledger.close()


def restored_from_a_backup(made: Deployment, change) -> None:
    """The ledger as it was before a change that another generation serves after."""
    from qmigrate.ledger import Ledger

    file = made.ledger_url.removeprefix("sqlite:///")
    Ledger.open(made.ledger_url).close()
    with sqlite3.connect(file) as then, sqlite3.connect(":memory:") as kept:
        then.backup(kept)
        assert call(made.root, *change).code == 0
        made.load(2, start=500)
        kept.backup(then)


RESET = ("fix", "reset", "NAME", "--reason", "r", "--yes", "--expect", "20", "--confirm", "DELETE ALL VECTORS")


@pytest.mark.parametrize("change", [("upgrade",), RESET], ids=["upgrade", "reset"])
def test_a_ledger_from_a_backup_takes_no_later_generation_out_of_service(made, change):
    """What serves was sealed by a later state of this ledger: nothing is advised, and done, that moves the name back."""
    if change == ("upgrade",):
        made.revise("0004", ADD.replace('"b"', '"d"'))
    restored_from_a_backup(made, [made.name if word == "NAME" else word for word in change])
    names = aliases(made)
    for args in (("plan",), ("upgrade",), ("rollback", "0002"), ("repair", "--name", made.name, "--yes"), ("doctor",)):
        said = call(made.root, *args)
        assert (said.code, "restored from a backup" in " ".join(said.text.split())) == (7, True), f"{args}: {said.text}"
    said = call(made.root, "check", "--only", made.name)
    assert (said.code, "repair --name" in said.out) == (4, False), said.out
    assert "restored from a backup" in said.out
    assert "repair --name" not in str(made.row().next_command)
    assert aliases(made) == names


@pytest.mark.parametrize("body", ["", "op.AddVector(\"NAME\", \"z\", VectorParams(size=4, distance=Distance.DOT), values=Empty()), "], ids=["in place", "rebuild"])
@pytest.mark.parametrize("whose", ["name of another ledger", "further name of another ledger", "name of the same ledger"])
def test_no_revision_takes_a_name_from_another_collection(two, whose, body):
    """op.SetAlias of what another collection is reached by: refused by plan and upgrade, and nothing has moved."""
    other, mine = two
    alias = other.name
    if whose == "further name of another ledger":
        alias = f"{other.name}_search"
        other.revise("0004", f'def upgrade():\n    return [op.SetAlias("{alias}", "{{name}}")]\n')
        assert call(other.root, "upgrade").code == 0
    if whose == "name of the same ledger":
        alias = f"{mine.name}_more"
        mine.revise("0002", CREATE.replace("{name}", alias))
        assert call(mine.root, "upgrade").code == 0
    names = aliases(other)
    said = f'{body.replace("NAME", mine.name)}op.SetAlias("{alias}", "{mine.name}")'
    mine.revise("0003", f"def upgrade():\n    return [{said}]\n".replace("{", "{{").replace("}", "}}"))
    for args in (("plan",), ("upgrade",), ("upgrade", "--dry-run")):
        refused = call(mine.root, *args)
        assert (refused.code, "would be taken from it" in refused.err) == (10, True), refused.text
    assert aliases(other) == names


def test_nothing_is_lost_by_a_look_at_another_qdrant(made, tmp_path):
    """Where what serves isn't there either, no way back is recorded as gone, nor does anything advise it."""
    there, right = states(made), made.qdrant
    made.qdrant = {"path": str(tmp_path / "another")}
    made.__post_init__()
    for verb in ("check", "status", "doctor"):
        assert "--vanished" not in call(made.root, verb).text, verb
    for generation in ("__g0001", "__g0002"):
        with pytest.raises(RefusedError, match="may be another one than that of this ledger"):
            repair.vanished(made.settings(), made.name + generation)
    made.qdrant = right
    made.__post_init__()
    assert states(made) == there
    back.rollback(made.settings(), "0002")
    assert made.row().revision == "0002"


@pytest.mark.parametrize("verb", ["name", "schema"])
def test_only_what_was_agreed_to_is_repaired(made, verb):
    """What another client changes while the question stands there was not in what was shown."""

    def elsewhere(name: str):
        def moves(store, _name):
            store.create_collection(f"{made.name}{name}", OTHER, seal=None)
            store.create_alias(made.name if verb == "name" else f"{made.name}_{name}", f"{made.name}{name}")

        return moves

    def meanwhile(_plan) -> None:
        changed(made, elsewhere("z") if verb == "name" else retuned(64))

    changed(made, elsewhere("y") if verb == "name" else retuned(32))
    repairs_it = repair.name if verb == "name" else drift.restore
    if verb == "schema" and "path" in made.qdrant:
        pytest.skip("local mode has no settings")
    with pytest.raises(RefusedError, match="is not what was shown any more"):
        repairs_it(made.settings(), made.name, agreed=meanwhile)
    repairs_it(made.settings(), made.name, agreed=lambda _plan: None)
    assert made.row().state == "ready"


def retuned(size: int):
    """Another client's setting."""

    def change(store, name):
        store.apply(name, Change("config.set", "hnsw_config", after={"m": size}))

    return change
