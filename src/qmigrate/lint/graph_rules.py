"""QM0 and QM1: files that can't be loaded, and how they follow each other. The ignores are judged in ``report``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qmigrate.lint.project import Project
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.model.names import OLD_SUFFIX, PROBE_PREFIX
from qmigrate.revisions.python_source import PythonSource, Span

_OWN = re.compile(r"__[ge](\d|\*|\?|\[)")


def _not_loaded(project: Project) -> Iterator[Hit]:
    for source in project.sources:
        if source.problem is not None:
            yield Hit(source, Span(source.problem_line, source.problem_line), source.problem)


def _no_docstring(project: Project) -> Iterator[Hit]:
    for source, revision in project.loaded():
        if not revision.doc:
            yield Hit(source, Span(1, 1), f"revision {revision.id} has no docstring")


def _file_name(project: Project) -> Iterator[Hit]:
    for source, revision in project.loaded():
        if not source.path.stem.startswith(revision.id):
            yield Hit(source, source.span_of("revision"), f"the file of revision {revision.id} is {source.path.name}")


def _twice(project: Project) -> Iterator[Hit]:
    first: dict[str, PythonSource] = {}
    for source, revision in project.loaded():
        other = first.setdefault(revision.id, source)
        if other is not source:
            yield Hit(source, source.span_of("revision"), f"{other.path.name} has the revision {revision.id} too")


def _no_parent(project: Project) -> Iterator[Hit]:
    known = {revision.id for _, revision in project.loaded()}
    # A file that can't be loaded may be the one that is missed: one finding is enough.
    if any(source.problem is not None for source in project.sources):
        return
    for source, revision in project.loaded():
        for parent in revision.down:
            if parent not in known:
                yield Hit(source, source.span_of("down_revision"), f"no file has the revision {parent}")


def _circle(project: Project) -> Iterator[Hit]:
    named = ", ".join(source.path.name for source in project.circle)
    for source in project.circle:
        yield Hit(source, source.span_of("down_revision"), f"these follow each other in a circle: {named}")


def _heads(project: Project) -> Iterator[Hit]:
    parents = {parent for _, revision in project.loaded() for parent in revision.down}
    heads = [(source, revision) for source, revision in project.loaded() if revision.id not in parents]
    if len({revision.id for _, revision in heads}) < 2:
        return
    for source, revision in heads:
        others = ", ".join(sorted({one.id for _, one in heads} - {revision.id}))
        yield Hit(source, source.span_of("revision"), f"{revision.id} is one of several heads (others: {others})")


def _bases(project: Project) -> Iterator[Hit]:
    bases = [(source, revision) for source, revision in project.loaded() if not revision.down]
    for source, revision in bases[1:]:
        first = bases[0][1].id
        yield Hit(source, source.span_of("down_revision"), f"{revision.id} follows nothing, like {first}")


def _empty(project: Project) -> Iterator[Hit]:
    for source, revision in project.loaded():
        if not revision.operations and len(revision.down) < 2:
            yield Hit(source, source.span_of_function("upgrade"), f"revision {revision.id} has no operation")


def _not_plannable(project: Project) -> Iterator[Hit]:
    # Rules of their own report it better.
    own = {(hit.source, hit.span) for hit in (*_own_name(project), *_no_cutover(project), *_fill_me(project))}
    seen = set()
    for use in project.uses:
        place = (use.source, use.span)
        if use.problem is not None and place not in own and (place, use.problem.message) not in seen:
            seen.add((place, use.problem.message))
            hint = f" ({use.problem.hint})" if use.problem.hint else ""
            yield Hit(*place, f"{use.problem.message}{hint}")


def _no_cutover(project: Project) -> Iterator[Hit]:
    from qmigrate.lint.change_rules import no_cutover

    return no_cutover(project)


def _fill_me(project: Project) -> Iterator[Hit]:
    from qmigrate.lint.vector_rules import fill_me

    return fill_me(project)


def _never_created(project: Project) -> Iterator[Hit]:
    seen = set()
    for use in project.uses:
        operation = use.operation
        if use.known or operation.is_glob or operation.creates or use.problem is not None or use.name in seen:
            continue
        if any(one.operation.creates and one.name == use.name for one in project.uses if one.source is not use.source):
            continue
        seen.add(use.name)
        yield Hit(use.source, use.span, f"no earlier revision creates {use.name}")


def _own_name(project: Project) -> Iterator[Hit]:
    for source, revision in project.loaded():
        for index, operation in enumerate(revision.operations):
            names = [
                str(getattr(operation, one)) for one in operation.named_by if one in ("collection", "name", "alias")
            ]
            wrong = next((name for name in names if _is_own(name)), None)
            if wrong is not None:
                what = "is a glob for" if operation.is_glob else "has the form of"
                place = source.span_of_operation(operation, index)
                yield Hit(source, place, f"{wrong!r} {what} names that qmigrate makes itself")


def _is_own(name: str) -> bool:
    return bool(_OWN.search(name)) or name.startswith(PROBE_PREFIX) or name.endswith(OLD_SUFFIX)


def _replaces(project: Project) -> Iterator[Hit]:
    for source, said in project.squashed:
        yield Hit(source, source.span_of("replaces"), said)


def _everything(project: Project) -> Iterator[Hit]:
    for source, revision in project.loaded():
        for index, operation in enumerate(revision.operations):
            if operation.is_glob and not operation.pattern.strip("*?"):
                place = source.span_of_operation(operation, index)
                yield Hit(source, place, f"{operation.label()} is about every collection there is, or will be")


RULES = (
    Rule(
        "QM001",
        "not-loadable",
        ERROR,
        "revision can't be loaded",
        "Every command reads all revisions: one that can't be loaded stops each of them.",
        "repair the file",
        _not_loaded,
    ),
    Rule(
        "QM004",
        "no-docstring",
        WARNING,
        "revision without a docstring",
        "status, history and the changelog show the first line of the docstring.",
        "begin the file with a sentence that says what changes for whom",
        _no_docstring,
    ),
    Rule(
        "QM005",
        "file-name",
        WARNING,
        "file name without the revision's id",
        "Messages name revisions, people look for files.",
        "begin the file's name with the id",
        _file_name,
    ),
    Rule(
        "QM101",
        "duplicate-id",
        ERROR,
        "two files with one id",
        "It is unknown which of them was applied.",
        "give one of them another id and let it follow the other",
        _twice,
    ),
    Rule(
        "QM102",
        "no-parent",
        ERROR,
        "revision that follows nothing known",
        "The order of revisions is undefined.",
        "bring the file back, or repair down_revision",
        _no_parent,
    ),
    Rule(
        "QM103",
        "circle",
        ERROR,
        "revisions that follow each other in a circle",
        "There is no first one.",
        "repair down_revision",
        _circle,
    ),
    Rule(
        "QM104",
        "several-heads",
        ERROR,
        "several heads",
        "`qmigrate upgrade` goes to one head, and refuses to choose.",
        'join them: qmigrate revision --merge -m "merge"',
        _heads,
    ),
    Rule(
        "QM105",
        "several-bases",
        WARNING,
        "several first revisions",
        "Two histories in one folder: usually a down_revision was forgotten.",
        "name the revision that it follows",
        _bases,
    ),
    Rule(
        "QM106",
        "empty-revision",
        WARNING,
        "revision without operations",
        "It leaves no trace anywhere, and doesn't count as a step.",
        "fill in upgrade(), or remove the file while it is applied nowhere",
        _empty,
    ),
    Rule(
        "QM107",
        "not-plannable",
        ERROR,
        "operation that can't be done",
        "`qmigrate plan` refuses it in the same words, before anything is written.",
        "do what the message says",
        _not_plannable,
    ),
    Rule(
        "QM108",
        "never-created",
        WARNING,
        "collection that no earlier revision creates",
        "On an empty environment (a test, a new region) the upgrade stops here.",
        "create it in an earlier revision, or let qmigrate adopt write one from the live collection",
        _never_created,
    ),
    Rule(
        "QM109",
        "own-name",
        ERROR,
        "a name that qmigrate makes itself",
        "Names like docs__g0002, docs__e7, docs__old and qmigrate_probe_… are made and removed by qmigrate; a glob "
        "matches logical names only.",
        "use the logical name, the one that the application uses",
        _own_name,
    ),
    Rule(
        "QM110",
        "everything",
        WARNING,
        "operation on every collection",
        "It is about the collections of other applications on the same server, too.",
        "name the collections, or a prefix that they share",
        _everything,
    ),
    Rule(
        "QM111",
        "replaces",
        ERROR,
        "squashed revision that can't stand for what it replaces",
        "Every command that reads the revisions stops at it.",
        "bring back what is missing; or remove all that it replaces, once every deployment has passed it",
        _replaces,
    ),
)
