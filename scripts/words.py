"""Plain words: phrases that read like a translation, and what to write in their place.

    python scripts/words.py [FOLDER OR FILE ...]        (default: src docs README.md examples scripts tests)

Texts are checked, names are not: comments and strings with white space in Python files, every line of other files.
Exit code 1 and one line per finding: file:line, the phrase, what to write.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("src", "docs", "README.md", "examples", "scripts", "tests")
KINDS = {".py", ".md", ".sh", ".yaml", ".yml", ".mako", ".toml", ""}
#: A phrase (a space stands for any white space, a line break too) and what to write in its place.
PHRASES: dict[str, str] = {
    r"nobody|no one": "no other process, no client, no user",
    r"somebody|someone|anybody|anyone": "another client, another process, a user",
    r"everybody|everyone|whoever": "every client, all users, the process that …",
    r"anew": "again",
    r"(is|are|was|were) wanted": '"is required", "expected …, got …"',
    r"(?<!there\s)(is|are|was|were) no (?!longer\b|more\b|less\b|other\b|different\b|such\b)\w+": '"is not a …"',
    r"mend(s|ed|ing)?": "repair, fix",
    r"beside": "next to, in addition to, besides",
    r"so many": "this many, N",
    r"of before": "earlier, previous",
    r"let (be|on|go)|lets (be|on|go)": "skipped, started, released",
    r"in trouble": 'unhealthy, "status red"',
    r"forth again": "to apply it again",
    r"in the way of": '"blocks …"',
    r"look(s|ed)? at": "check, read, inspect",
    r"(is|are|was|were|being|be|been) told": "reports, is sent, is named",
    r"heard( of| from)?": "received",
    r"wholly": "completely",
    r"left over": "leftover, unused, remaining",
    r"hands over": "passes, returns",
    r"gone on( with)?": "resumed, continued",
    r"taken back": "undone, reverted, rolled back",
    r"made again": "recreated, rebuilt",
    r"hereafter|beforehand": "after it, in advance",
    r"by nothing|for ever|of its own accord|at its end|called to account": "plain technical English",
}
#: Files that keep such a phrase, and why: (path from the root, the phrase as it stands there).
EXCEPTIONS: set[tuple[str, str]] = {
    ("docs/lint.md", "beside"),  # the name of a rule
    ("docs/reference/functions.md", "beside"),  # the name of an argument
    ("src/qmigrate/commands/presets.py", "beside"),  # the name of an argument
    ("src/qmigrate/model/plan.py", "beside"),  # the name of an attribute
    ("src/qmigrate/planner/adopt.py", "beside"),  # the name of an argument
    ("src/qmigrate/planner/restore.py", "beside"),  # a sentence that is stored
    ("src/qmigrate/rows/reader.py", "beside"),  # the name of an argument
    ("tests/scenarios/test_examples_faces.py", "nobody"),  # what the example prints for a face without a person
}
#: Files that are not texts of today: stored samples, frozen migrations, this table and its test.
LEFT_OUT = ("tests/golden/", "src/qmigrate/ledger/migrations/", "scripts/words.py", "tests/unit/project/test_words.py")
PATTERNS = [(re.compile(rf"\b(?:{one})\b".replace(" ", r"\s+"), re.IGNORECASE), use) for one, use in PHRASES.items()]
STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a person reads in a file."""
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield 1, content
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT or (token.type in STRINGS and re.search(r"\s", token.string)):
            yield token.start[0], re.sub(r"\{[^{}\n]*\}", "{}", token.string)


def findings(file: Path) -> Iterator[str]:
    """What to write otherwise in one file."""
    name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.as_posix()
    if name.startswith(LEFT_OUT):
        return
    for line, text in texts(file):
        for pattern, use in PATTERNS:
            for found in pattern.finditer(text):
                phrase = " ".join(found[0].split())
                if (name, phrase.lower()) not in EXCEPTIONS:
                    yield f"{name}:{line + text[: found.start()].count(chr(10))}: {phrase}: write {use}"


def main(places: list[str]) -> int:
    """Print every finding in these folders and files; 1 when there is one."""
    roots = [Path(place).resolve() for place in places] or [ROOT / place for place in PLACES]
    files = [file for root in roots for file in (sorted(root.rglob("*")) if root.is_dir() else [root])]
    found = [line for file in files if file.is_file() and file.suffix in KINDS for line in findings(file)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
