"""The command line of ``tests/mutants``: choose mutants, judge them one after the other, print a line for each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.mutate import BAD, Copy, Mutant
from tests.mutation.rules import MUTANTS, RULES


def main(arguments: list[str], about: str | None) -> int:
    """Run it; the exit code is explained in the script."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="RULE", action="append", default=[])
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args(arguments)
    mutants = [mutant for mutant in MUTANTS if chosen(mutant, asked.only)]
    if not mutants:
        parser.error(f"no mutant of {', '.join(asked.only)}")
    if asked.list:
        for number, words in RULES.items():
            of_it = [mutant for mutant in mutants if mutant.rule == number]
            if of_it:
                print(f"{number}. {words}")
            for mutant in of_it:
                print(f"   - {mutant.name}: {mutant.path}")
                print("".join(f"       {test}\n" for test in mutant.tests), end="")
        return 0
    with tempfile.TemporaryDirectory(prefix="qmigrate-mutants-") as folder:
        return judge_all(Copy(Path(folder)), mutants)


def chosen(mutant: Mutant, only: Sequence[str]) -> bool:
    """Whether a mutant is one of those that were asked for; all are where nothing was."""
    return not only or any(one == str(mutant.rule) or (not one.isdigit() and one in mutant.name) for one in only)


def judge_all(copy: Copy, mutants: Sequence[Mutant]) -> int:
    """First the tests as they are, then with each mutant."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    code, said = copy.pytest(tests)
    if code:
        print(f"without a mutant the tests don't pass:\n{said}", file=sys.stderr)
        return 2
    bad = 0
    for mutant in mutants:
        started = time.monotonic()
        outcome = copy.judge(mutant)
        bad += outcome.state in BAD
        print(f"{outcome.state:14} {mutant.rule:>2}  {mutant.name}  ({time.monotonic() - started:.0f} s)", flush=True)
        if outcome.state in BAD:
            print("    " + outcome.said.replace("\n", "\n    "), flush=True)
    print(f"{len(mutants)} mutants, {bad} not killed")
    return 1 if bad else 0
