"""Values and filters of the command line: what is JSON is read as JSON, and numbers and texts stay what they are."""

from __future__ import annotations

import click
import pytest

from qmigrate.cli import values

#: What is typed, and what it means.
VALUES = [
    ("90", 90),
    ("-5", -5),
    ("0", 0),
    ("18446744073709551616", 2**64),
    ('"90"', "90"),
    ('"say \\"hi\\""', 'say "hi"'),
    ('"\\ud83d\\ude00"', "😀"),
    ('""', ""),
    ("007", "007"),
    ("-0", "-0"),
    ("--5", "--5"),
    ("+5", "+5"),
    ("1e5", "1e5"),
    ("1.10", "1.10"),
    ("²", "²"),
    ("٣", "٣"),
    ("1_000", "1_000"),
    ("2024-01-01", "2024-01-01"),
    ("true", "true"),
    ("null", "null"),
    ("a\tb", "a\tb"),
    ('"', '"'),
    ("json:0.5", 0.5),
    ("json:1e5", 100000.0),
    ("json:true", True),
    ('json:["a", 1]', ["a", 1]),
    ('"json:1"', "json:1"),
    ("", ""),
]


@pytest.mark.parametrize(("typed", "meant"), VALUES)
def test_a_value_is_what_it_looks_like(typed, meant):
    """Whole numbers are numbers, what is quoted is a string, what is marked as JSON is JSON, all else is a string."""
    found = values.value_of(typed, "--value")
    assert (found, type(found)) == (meant, type(meant))
    assert values.parameter(f"p={typed}") == ("p", meant)


REFUSED_VALUES = ['"a"b"', '"\\ud83d"', "json:{", "json:NaN", "json:1e999", 'json:{"a": 1, "a": 2}', "json:", "a\udcffb", "9" * 5000]


@pytest.mark.parametrize("typed", REFUSED_VALUES, ids=lambda typed: repr(typed)[:20])
def test_a_value_that_is_broken_is_refused(typed):
    """What begins like JSON and isn't, or is not a text, is refused with a message that names the option."""
    with pytest.raises(click.UsageError) as caught:
        values.value_of(typed, "--value")
    assert caught.value.message.startswith("--value")


def match(value) -> dict:
    """A filter for one value."""
    return {"must_not": [{"key": "a", "match": {"value": value}}]}


#: What is typed, and the filter that it is; YAML only where it is marked as such.
FILTERS = [
    ('{"must_not": [{"key": "a", "match": {"value": "\\ud83d\\ude00"}}]}', match("😀")),
    ('{"must_not": [{"key": "a", "match": {"value": "2024-01-01"}}]}', match("2024-01-01")),
    ('{"must_not":\t[{"key": "a", "match": {"value": "x\\ty"}}]}', match("x\ty")),
    ('{"must_not": [{"key": "a", "match": {"value": 1e5}}]}', match(1e5)),
    ('{"must_not": [{"key": "a", "match": {"value": "007"}}]}', match("007")),
    ('{"must_not": [{"key": "a", "match": {"value": "a\\/b"}}]}', match("a/b")),
    ("yaml:must_not: [{key: a, match: {value: 2024-01-01}}]", match("2024-01-01")),
    ("yaml:must_not: [{key: a, match: {value: 007}}]", match("007")),
    ("yaml:must_not: [{key: a, match: {value: 1e5}}]", match(1e5)),
    ("yaml:must_not: [{key: a, match: {value: no}}]", match("no")),
    ("yaml:must_not: [{key: a, match: {value: 0x1F}}]", match("0x1F")),
    ("yaml:must_not: [{key: a, match: {value: 12:30}}]", match("12:30")),
    ("yaml:must_not: [{key: a, match: {value: '90'}}]", match("90")),
    ("yaml:must_not: [{key: a, match: {value: 90}}]", match(90)),
    ("yaml:must_not: [{key: a, match: {value: true}}]", match(True)),
]


@pytest.mark.parametrize(("typed", "meant"), FILTERS, ids=lambda one: str(one)[:60])
def test_a_filter_is_what_is_written(typed, meant):
    """JSON is read as JSON; in YAML, which is marked as such, plain words are read as JSON reads them."""
    assert values.filter_of(typed) == meant


@pytest.mark.parametrize(("name", "content"), [("a.json", FILTERS[0][0]), ("b.txt", FILTERS[0][0]), ("c.yaml", FILTERS[6][0][5:])])
def test_a_filter_from_a_file(tmp_path, name, content):
    """The ending of a file decides whether it is YAML."""
    (tmp_path / name).write_text(content)
    assert "must_not" in values.filter_of(f"@{tmp_path / name}")


REFUSED_FILTERS = [
    ("must: [{key: a, match: {value: 1}}]", "yaml:"),
    ('{"must": [], "must": [{"key": "a"}]}', "twice"),
    ('{"must": [{"key": "a", "match": {"value": "\\ud83d"}}]}', "d83d"),
    ('{"must": [{"key": "\\ude00", "match": {"value": 1}}]}', "de00"),
    ('{"must": [{"key": "a", "range": {"lt": NaN}}]}', "NaN"),
    ('{"must": [{"key": "a", "range": {"lt": 1e999}}]}', "too large"),
    ('{"must": [{"key": "a",}]}', "line 1, column"),
    ('{"must": 1} x', "Extra data"),
    ("{'must': 1}", "column 2"),
    ("[" * 100_000, "deep"),
    ("yaml:must: [", "YAML"),
    ("yaml:{must: 1, must: 2}", "twice"),
    ('yaml:must: ["\\ud83d"]', "d83d"),
    ("yaml:must: [{key: a, match: {value: !!str 90}}]", "quotes"),
    ("yaml:&a [*a]", "itself"),
    ("yaml:? [a]\n: 1", "not a string"),
    ("@missing.json", "can't be read"),
    ("@.", "can't be read"),
]


@pytest.mark.parametrize(("typed", "words"), REFUSED_FILTERS, ids=lambda one: str(one)[:40])
def test_a_filter_that_is_broken_is_refused(typed, words):
    """Duplicate keys, halves of surrogate pairs, YAML that doesn't say so, files that aren't there: a message each."""
    with pytest.raises(click.UsageError) as caught:
        values.filter_of(typed)
    assert words in caught.value.message
    assert caught.value.message.startswith("--filter")


def test_only_settings_are_yaml_without_saying_so():
    """Nothing but the settings file, declared schemas and filters that ask for it are read as YAML."""
    import re
    from pathlib import Path

    source = Path(values.__file__).parents[1]
    readers = re.compile(r"yaml\.(safe_load|load|full_load|compose|unsafe_load)\b")
    found = {str(file.relative_to(source)) for file in source.rglob("*.py") if readers.search(file.read_text())}
    assert found == {"cli/values.py", "settings/values.py", "cli/schema.py", "commands/init.py", "declared/reading.py"}
