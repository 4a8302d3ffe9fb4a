"""The pages that are made of the code: none is behind it, and what --json prints is what its schema says."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import jsonschema
import pytest
from tests.scenarios import json_schemas
from tests.scenarios.cli import call

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "scripts" / "reference"
GOLDEN = sorted((ROOT / "tests" / "golden" / "files" / "json").glob("*.json"))


@pytest.fixture(scope="module")
def reference():
    """The program that makes the pages, and its modules."""
    before, known = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield runpy.run_path(str(FOLDER / "__main__.py"), run_name="reference")
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(FOLDER)):
            del sys.modules[name]


def test_no_page_is_behind_the_code(reference):
    """Who changes an operation, a setting, a verb or a result runs `scripts/docs --generate`."""
    assert reference["stale"]() == []


def test_a_page_that_was_edited_is_found(reference, tmp_path):
    """A changed page, one that is gone, and a schema of a verb that is gone."""
    made = reference["pages"]()
    for name, text in made.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    reference["stale"].__globals__["DOCS"] = tmp_path
    try:
        assert reference["stale"]() == []
        (tmp_path / "reference/cli.md").write_text("mine", encoding="utf-8")
        (tmp_path / "reference/settings.md").unlink()
        (tmp_path / "reference/schemas/qmigrate.brew-1.json").write_text("{}", encoding="utf-8")
        assert reference["stale"]() == ["reference/cli.md", "reference/schemas/qmigrate.brew-1.json", "reference/settings.md"]
    finally:
        reference["stale"].__globals__["DOCS"] = ROOT / "docs"


def test_every_operation_and_value_has_an_example(reference):
    """The examples are made and checked while the page is: one that doesn't run is an error there."""
    assert reference["operation_pages"].missing() == []


def test_every_operation_answers_what_a_reader_asks(reference):
    """Strategy, effect on readers and way back of each example, and the meaning of each argument."""
    page = reference["pages"]()["reference/operations.md"].partition("\n## Values\n")[0]
    for part in page.split("\n## op.")[1:]:
        name = part.split("\n", 1)[0]
        examples = part.count("```python")
        assert examples >= 1, name
        for row in ("- in the plan: `", "- strategy: ", "- readers: ", "- way back: "):
            assert part.count(row) == examples, (name, row)
        assert [line for line in part.splitlines() if line.startswith("| `") and line.endswith("|  |")] == [], name


def test_every_key_of_the_settings_has_a_meaning(reference):
    """The validation names its keys, and none is left without words."""
    page = reference["pages"]()["reference/settings.md"]
    assert [line for line in page.splitlines() if line.startswith("| `") and ("|  |" in line or "| . |" in line)] == []
    assert {"qdrant", "rebuild", "databases"} <= reference["setting_pages"].known("")


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_what_json_prints_is_what_its_schema_says(file):
    """Each stored answer, key by key: nothing is there that the schema doesn't have. Later keys may be missing."""
    json_schemas.check(json.loads(file.read_text(encoding="utf-8"))["answer"], complete=False)


def test_another_answer_is_found(tmp_path):
    """A key one too many, another type, and, where an answer has to be complete, a key that is missing."""
    answer = call(tmp_path, "init", "--json").json
    json_schemas.check(answer)
    for change in ({"config": 7}, {"coffee": 1}, {"created": None}):
        with pytest.raises(jsonschema.ValidationError):
            json_schemas.check({**answer, "data": {**answer["data"], **change}}, complete=False)
    without = {name: value for name, value in answer["data"].items() if name != "config"}
    json_schemas.check({**answer, "data": without}, complete=False)
    with pytest.raises(jsonschema.ValidationError):
        json_schemas.check({**answer, "data": without})
