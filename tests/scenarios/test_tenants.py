"""Collections that several tenants share: a deletion takes one tenant's points, or declares that it means all."""

from __future__ import annotations

import pytest
from tests.harness import CREATE, Deployment, write
from tests.scenarios.app_sql import App
from tests.scenarios.cli import call

from qmigrate import fix, op
from qmigrate.commands import erase, upgrade
from qmigrate.commands import fix as command
from qmigrate.errors import UsageError
from qmigrate.model.transform import Point

PRESETS = {
    "stale": {"collection": "NAME", "filter": {"must": [{"key": "stale", "match": {"value": True}}]}, "reason": "r"},
    "mine": {"collection": "NAME", "prefix": "/p", "tenant": ":org", "reason": "r"},
    "own": {
        "collection": "NAME",
        "prefix": "/p",
        "filter": {"must": [{"key": "org_id", "match": {"value": ":org"}}]},
        "reason": "r",
    },
}


@pytest.fixture
def shared(deployment):
    """Points of organisations 1 and 2, half of them stale, in a collection that the settings say is shared."""
    name = deployment.name
    deployment.extra = {
        "fixes": {
            "max_share": 1,
            "tenants": {f"{name[:6]}*": "org_id"},
            "presets": {key: {**value, "collection": name} for key, value in PRESETS.items()},
        }
    }
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    payloads = ({"org_id": n % 2 + 1, "stale": n < 4, "path": f"/p/{n}"} for n in range(8))
    store = deployment.store()
    write(store, name, [Point(n, payload, {"a": [1.0] * 8}) for n, payload in enumerate(payloads)])
    store.close()
    return deployment


def left(made: Deployment) -> list[int]:
    """Ids that are still there."""
    return sorted(made.contents())


@pytest.mark.parametrize(
    ("given", "gone"),
    [
        (("--prefix", "/p", "--tenant", "2"), [1, 3, 5, 7]),
        (("--id", "0", "--id", "1", "--tenant", "1"), [0]),
        (("--prefix", "/p", "--tenant", '"2"'), []),
        (("--prefix", "/p", "--tenant", "*"), list(range(8))),
        (("--filter", "yaml:must: [{key: org_id, match: {value: 1}}, {key: stale, match: {value: true}}]"), [0, 2]),
        (("--preset", "stale", "--tenant", "1"), [0, 2]),
        (("--preset", "mine", "--param", "org=2"), [1, 3, 5, 7]),
        (("--preset", "own", "--param", "org=1"), [0, 2, 4, 6]),
    ],
)
def test_a_deletion_takes_the_points_of_its_tenant(shared, given, gone):
    """By an option, by the preset, by its own filter; all only when that is given."""
    said = call(shared.root, "fix", "delete", *(() if "--preset" in given else (shared.name,)), *given,
                "--reason", "r", "--yes", "--expect", str(len(gone)))
    assert said.code == 0, said.text
    assert left(shared) == [n for n in range(8) if n not in gone]


@pytest.mark.parametrize(
    "given", [("--prefix", "/p"), ("--id", "1"), ("--preset", "stale"), ("--prefix", "/p", "--erase")]
)
def test_without_a_tenant_nothing_goes(shared, given):
    """The message names the field, and how to say it."""
    said = call(shared.root, "fix", "delete", *(() if "--preset" in given else (shared.name,)), *given,
                "--reason", "r", "--yes", "--max-share", "1")
    assert said.code == 2
    assert "several tenants share" in said.text
    assert "--tenant" in said.text
    assert len(left(shared)) == 8


@pytest.mark.parametrize("glob", ["t*{}", "glob:*{}", "t?????????{}"])
def test_no_glob_goes_around_the_tenants_of_another(shared, glob):
    """The settings name the collection by how it begins, the deletion by how it ends: whose points is asked all the same."""
    pattern = glob.format(shared.name[10:])
    done = call(shared.root, "fix", "delete", pattern, "--prefix", "/p", "--reason", "r", "--yes", "--expect", "8")
    assert (done.code, "no tenant is named" in done.text, len(left(shared))) == (2, True, 8), done.text


def test_programs_say_it_too(shared):
    """The argument `tenant` of the Python call; one that nothing is configured for is a mistake."""
    settings = shared.settings()
    with pytest.raises(UsageError, match="org_id"):
        fix.delete_points(shared.name, prefix="/p", reason="r", settings=settings)
    assert fix.delete_points(shared.name, prefix="/p", reason="r", tenant=1, settings=settings).changed == 4
    with pytest.raises(UsageError, match="no setting has the field by which"):
        fix.delete_points("another", prefix="/p", reason="r", tenant=1, settings=settings)


@pytest.mark.parametrize(
    ("preset", "param", "words", "code"),
    [
        ({"prefix": "/p", "tenant": ":v"}, "json:null", "null for v", 2),
        ({"prefix": "/p", "tenant": ":v"}, "*", "does not mean the points of all tenants", 2),
        ({"prefix": "/p", "tenant": None}, None, "tenant has no value", 2),
        ({"prefix": "/p", "filter": ":v"}, "json:null", "null for v", 2),
        ({"prefix": "/p", "filter": None}, None, "filter has no value", 2),
        (
            {"filter": {"must": [{"key": "path", "match": {"value": "/p/0"}}], "must_not": ":v"}},
            "json:null",
            "null for v",
            2,
        ),
        ({"prefix": "/p", "older_than": ":v"}, "json:null", "null for v", 2),
        ({"prefix": "/p", "older_than": None}, None, "older_than has no value", 2),
        ({"prefix": "/p", "older_than": {"field": "at", "age": ":v"}}, "90", "90 has no unit", 2),
        ({"prefix": "/p", "older_than": {"field": "at", "age": ":v"}}, '"90"', "'90' has no unit", 2),
        ({"older_than": {"field": "at", "age": 90}}, None, "90 has no unit", 2),
        ({"prefix": ":v", "filter": {"must": [{"key": "org_id", "match": {"value": 1}}]}}, "json:null", "null for v", 2),
        ({"prefix": "/p", "sql": None}, None, "sql has no value", 2),
    ],
)
def test_a_preset_loses_no_condition_by_a_slip(shared, preset, param, words, code):
    """Null, an empty key, an age without its unit and ``*`` as a value would each select more than was written."""
    fixes = shared.extra["fixes"]
    shared.extra = {"fixes": {**fixes, "tenants": {}, "presets": {"slip": {"collection": shared.name, "reason": "r", **preset}}}}
    shared.__post_init__()
    given = ("--param", f"v={param}") if param is not None else ()
    said = call(shared.root, "fix", "delete", "--preset", "slip", *given, "--yes", "--max-share", "1")
    assert (said.code, words in said.text) == (code, True), said.text
    assert left(shared) == list(range(8))


#: Every way in which a program deletes points by a condition: what it calls.
WAYS = {
    "run": lambda made, **more: fix.run(deletion(made), settings=made.settings(), **more),
    "run, of several": lambda made, **more: fix.run(
        op.DeletePoints(made.name, filter=OF_ONE, reason="r"), deletion(made), settings=made.settings(), **more
    ),
    "delete_points": lambda made, **more: fix.delete_points(
        made.name, prefix="/p", reason="r", settings=made.settings(), **more
    ),
    "erase": lambda made, **more: fix.delete_points(
        made.name, prefix="/p", reason="r", erase=True, expect=4, settings=made.settings(), **more
    ),
    "soft": lambda made, **more: fix.delete_points(
        made.name, prefix="/p", reason="r", soft=True, settings=made.settings(), **more
    ),
    "a preview": lambda made, **more: command.review(made.settings(), deletion(made), **more),
    "the engine": lambda made, **more: command.fix(made.settings(), deletion(made), **more),
    "the engine of erasures": lambda made, **more: erase.erase(made.settings(), deletion(made), expect=4, **more),
    "a preview of an erasure": lambda made, **more: erase.review(made.settings(), deletion(made), **more),
}
OF_ONE = {"must": [{"key": "org_id", "match": {"value": 2}}]}


def deletion(made: Deployment) -> op.DeletePoints:
    """A deletion that names no tenant."""
    return op.DeletePoints(made.name, prefix="/p", reason="r")


@pytest.mark.parametrize("way", WAYS)
def test_no_way_goes_around_the_tenants(shared, way):
    """The settings hold for programs as for the command line; what names whose points it means is done."""
    before = shared.contents()
    with pytest.raises(UsageError, match="several tenants share"):
        WAYS[way](shared)
    assert shared.contents() == before
    WAYS[way](shared, tenant=2)
    there = {one for one, (payload, _) in shared.contents().items() if "deleted" not in payload}
    assert there >= {0, 2, 4, 6}


def test_a_tenant_bounds_nothing_but_deletions(shared):
    """Another fix would be done for all of them, so it is refused."""
    before = shared.contents()
    with pytest.raises(UsageError, match="bounds deletions"):
        fix.run(op.SetPayload(shared.name, {"seen": True}, filter=OF_ONE), tenant=2, settings=shared.settings())
    assert shared.contents() == before


@pytest.mark.parametrize("by_field", [False, True])
def test_orphans_of_one_tenant_are_not_those_of_all(shared, tmp_path, by_field):
    """A query over the rows of one tenant has nothing on the points of the other: whose are meant has to be given."""
    url = f"sqlite:///{tmp_path}/app.db"
    shared.extra["databases"] = {"app": {"url": url}}
    shared.__post_init__()
    app = App(shared, url)
    app.run("CREATE TABLE mine (id, path)")
    app.run("INSERT INTO mine VALUES (2, '/p/2'), (4, '/p/4'), (6, '/p/6')")
    query = ["--sql", "SELECT path AS id FROM mine", "--id-field", "path"] if by_field else ["--sql", "SELECT id FROM mine"]
    words = ["fix", "orphans", shared.name, *query, "--reason", "r", "--grace", "0s", "--yes", "--max-share", "1"]
    said = call(shared.root, *words)
    assert (said.code, "no tenant is named" in said.text, left(shared)) == (2, True, list(range(8)))
    with pytest.raises(UsageError, match="no tenant is named"):
        fix.orphans(shared.name, sql="SELECT id FROM mine", reason="r", grace=0, settings=shared.settings())
    assert fix.check_orphans(shared.name, sql="SELECT id FROM mine", settings=shared.settings()).changes == 5
    looked = call(shared.root, *words[:-5], "--check", "--json")
    assert looked.code == 4, looked.text
    assert looked.json["data"]["previews"][0]["changes"] == 5, looked.text
    # One of four, though one of eight of all.
    for grace in ("0s", "1ms"):
        capped = [*words[: words.index("--grace")], "--grace", grace, "--yes", "--max-share", "0.2", "--tenant", "1"]
        said = call(shared.root, *capped)
        assert (said.code, "1 of 4 points" in said.text) == (10, True), said.text
    assert call(shared.root, *words, "--tenant", "1").code == 0
    assert left(shared) == [1, 2, 3, 4, 5, 6, 7]
    if by_field:
        assert call(shared.root, *words, "--tenant", "*").code == 0
    else:
        wanted = {"reason": "r", "grace": 0, "max_share": 1.0, "tenant": "*"}
        fix.orphans(shared.name, sql="SELECT id FROM mine", **wanted, settings=shared.settings())
    assert left(shared) == [2, 4, 6]
