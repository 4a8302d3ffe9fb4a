"""The table of mutants fits the code as it is: each applies, each rule has one, and every test that is named is there."""

from __future__ import annotations

import ast

import pytest
from tests.mutation.mutate import BROKEN, KILLED, ROOT, SKIPPED, SURVIVED, Mutant, function_of, judged
from tests.mutation.rules import MUTANTS, RULES
from tests.mutation.script import chosen, main


def test_every_rule_has_a_mutant_and_every_mutant_a_name_of_its_own():
    """A rule without one could go without a test noticing."""
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_names_tests_that_are_there(mutant):
    """Its text is in the file once, what stands there afterwards is Python, and the tests are functions of their files."""
    assert mutant.applies()
    assert mutant.tests
    for test in mutant.tests:
        file = ROOT / test.split("::")[0]
        functions = {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}
        assert function_of(test) in functions


CASE = '<testcase name="{}">{}</testcase>'


@pytest.mark.parametrize(
    ("cases", "state"),
    [
        ([("test_a[x]", ""), ("test_a[y]", "<failure/>"), ("test_b", "<error/>")], KILLED),
        ([("test_a[x]", "<failure/>"), ("test_b", "")], SURVIVED),
        ([("test_a", "<skipped/>"), ("test_b", "<failure/>")], SURVIVED),
        ([("test_a", "<skipped/>"), ("test_b", "<skipped/>")], SKIPPED),
        ([("test_a", "<failure/>")], BROKEN),
        ([("tests.test_file", "<error/>")], BROKEN),
    ],
)
def test_killed_means_that_each_named_test_has_failed(tmp_path, cases, state):
    """In at least one of its cases; a file that can't be imported proves nothing."""
    file = tmp_path / "results.xml"
    file.write_text("<testsuites><testsuite>" + "".join(CASE.format(*case) for case in cases) + "</testsuite></testsuites>")
    assert judged(file, ["tests/file.py::test_a", "tests/file.py::TestMore::test_b"], "").state == state


def test_a_mutant_that_changes_nothing_or_has_no_place_does_not_apply(tmp_path):
    """Text that is not there, is there twice, stays the same, or leaves no Python."""
    place = tmp_path / "src" / "qmigrate" / "one.py"
    place.parent.mkdir(parents=True)
    place.write_text("a = 1\nb = 1\n")
    for old, new, applies in (("a = 1", "a = 2", True), ("c", "d", False), ("1", "2", False), ("a = 1", "a = 1", False), ("a = 1", "a =", False)):
        assert Mutant(1, "m", "one.py", old, new, ()).applies(tmp_path) is applies


def test_the_script_lists_what_is_asked_for(capsys):
    """By number or by a part of the name; what there is none of is an error."""
    assert main(["--list", "--only", "13"], None) == 0
    assert "what is redone is not journaled before" in capsys.readouterr().out
    assert [mutant.name for mutant in MUTANTS if chosen(mutant, ["one sweep round"])] == ["one sweep round only"]
    assert not any(chosen(mutant, ["3"]) for mutant in MUTANTS if mutant.rule == 13)
    with pytest.raises(SystemExit):
        main(["--only", "99"], None)
