"""Figures as text, and docs/metrics.md: alerts and the dashboard name what is really printed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as lenient

from qmigrate.commands.metrics import CheckFigures, Figures, Metrics, exposition, metrics, write
from qmigrate.errors import ConfigError, UsageError
from qmigrate.settings.load import MetricSettings, Settings

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FULL = Metrics(
    AT,
    {"qdrant": True, "ledger": True},
    (Figures('a"b\\c', 3, "0002", "pending", 1, True, 4096, {"": 0.25}), Figures("new", None, None, "pending", 2, True)),
    {'a"b\\c': AT},
    False,
    (
        CheckFigures("assets", "a", 0.5, 4, 4, orphaned=1, missing=2),
        CheckFigures("persons", "a", 0.5, 10, drifted=7),
        CheckFigures("broken", "a", error="why", exit_code=2),
    ),
    request_seconds={"qdrant": 0.002, "ledger": 0.001},
)
#: Words of the query language that are not metrics.
WORDS = {"time", "sum", "min", "max", "by", "or", "absent", "changes", "label_values", "collection"}


def samples(text: str, parse=strict) -> dict:
    """(name, labels) -> value."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value for family in parse(text) for one in family.samples
    }


def names() -> set[str]:
    """Every metric that there is."""
    return {name for name, _ in samples(exposition(FULL))}


def used(expression: str) -> set[str]:
    """Metrics that a query names."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)', " ", expression)
    return set(re.findall(r"\b[a-z_]+\b", bare)) - WORDS


def test_both_formats_read_the_same():
    """The strict parser and that of textfile collectors agree; what is not known is left out, and not 0."""
    text = exposition(FULL)
    found = samples(text)
    assert found == samples(text, lenient)
    assert text.endswith("# EOF\n")
    of = {(name, dict(labels).get("collection"), dict(labels).get("check")): value for (name, labels), value in found.items()}
    assert of["qdrant_vector_count", 'a"b\\c', None] == 3
    assert ("qdrant_vector_count", "new", None) not in of
    assert of["qmigrate_last_migration_timestamp_seconds", 'a"b\\c', None] == AT.timestamp()
    assert {key[2]: value for key, value in of.items() if key[0] == "qmigrate_check_up"} == {"assets": 1, "persons": 1, "broken": 0}
    assert [key for key in of if key[0] == "payload_drift_count"] == [("payload_drift_count", "a", "persons")]
    assert (of["orphaned_vector_count", "a", "assets"], of["missing_vector_count", "a", "assets"]) == (1, 2)
    assert FULL.exit_code == 2
    assert Metrics(AT, {"qdrant": False, "ledger": True}, checks=FULL.checks).exit_code == 9


def test_the_page_knows_every_metric():
    """The table has each one and no other, with its labels."""
    rows = re.findall(r"^\| `(\w+)` \| ([`\w, ]*) ?\| ", PAGE, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", told)) for name, told in rows}
    assert set(labels) == names()
    for name, told in samples(exposition(FULL)):
        assert {label for label, _ in told} == labels[name], name


def test_alerts_and_dashboard_name_metrics_that_exist():
    """A query of a metric that isn't printed would be quiet forever."""
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    rules = [rule for block in blocks for group in block.get("groups", ()) for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 8
    assert all(set(rule) == {"alert", "expr", "for", "labels", "annotations"} for rule in rules)
    board = json.loads((DOCS / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [one["expr"] for one in board["annotations"]["list"]]
    queries += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    for expression in (*(rule["expr"] for rule in rules), *queries):
        assert used(expression), expression
        assert used(expression) <= names(), expression
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert names() - {name for expression in queries for name in used(expression)} <= {
        "qmigrate_serving", "qmigrate_changed_revision_files"
    }


def test_the_checks_of_the_page_are_understood(tmp_path):
    """The example is read as the settings are; only its collections are not there."""
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("metrics:"))
    (tmp_path / "qmigrate.yaml").write_text(example)
    found = Settings.load(config=tmp_path / "qmigrate.yaml", environ={})
    assert set(found.metrics.checks) == {"assets", "persons"}
    measured = metrics(found).checks
    assert {one.check for one in measured} == {"assets", "persons"}
    assert all("no collection" in str(one.error) for one in measured)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "orphan", "collection": "c", "sql": "SELECT 1 AS id"}, 'checks.x.kind must be.*did you mean "orphans"'),
        ({"kind": "orphans", "collection": "c"}, "checks.x needs sql"),
        ({"kind": "orphans", "collection": "c", "sql": "SELECT 1 AS id", "sample": 5}, "unknown key.*checks.x.sample"),
        ({"kind": "orphans", "collection": "c", "sql": "DELETE FROM t"}, "checks.x: .*SELECT"),
        ({"kind": "sync", "collection": "c", "sql": "SELECT 1 AS id"}, "checks.x: .*no field is named"),
        ({"kind": "sync", "collection": "c", "sql": "SELECT 1 AS id", "fields": ["a"], "sample": 0}, "checks.x.sample"),
    ],
)
def test_a_check_that_is_none_is_refused(entry, words):
    """Before anything is opened, with the place in the settings."""
    with pytest.raises(ConfigError, match=words):
        metrics(Settings(metrics=MetricSettings({"x": entry})))


def test_the_file_is_whole_and_readable(tmp_path):
    """Others may read it, nothing else is left there, and without its folder nothing is made."""
    file = tmp_path / "qmigrate.prom"
    file.write_text("old")
    write(FULL, file)
    assert (file.read_text(), oct(file.stat().st_mode)[-3:]) == (exposition(FULL), "644")
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(UsageError, match="no folder"):
        write(FULL, tmp_path / "none" / "qmigrate.prom")
