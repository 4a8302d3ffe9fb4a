"""QM6: Alembic's revisions and qmigrate's, where one waits for the other. It reads their text and runs none of it."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator

from qmigrate.lint.project import Project, Use
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.revisions.alembic_files import SHORT, SqlProject, SqlRevision, Statement
from qmigrate.revisions.python_source import PythonSource, Span, full_name, imported, span
from qmigrate.text import counted

#: Directives that do something with Qdrant; `require` only looks, unless the run turns it into one.
STEPS = ("run", "apply", "revert", "fix")
#: Operations that read every point, by name: in a call of ``apply`` nothing more is known of them.
_HEAVY = frozenset({
    *("AddVector", "AlterVector", "Quantize", "Reembed", "DropVector", "RenameVector"),
    *("TransformPoints", "Reshard", "Rekey"),
})
#: Values of a new vector that no point has to be read for.
_LIGHT_VALUES = frozenset({"Empty"})


def _pairs(project: Project) -> Iterator[tuple[SqlProject, SqlRevision]]:
    if project.sql is not None:
        for revision in project.sql.revisions.values():
            yield project.sql, revision


def _mixed(project: Project) -> Iterator[Hit]:
    for _, revision in _pairs(project):
        for statements in (revision.upgrade, revision.downgrade):
            first = next((one for one in statements if one.kind == "sql"), None)
            for one in statements:
                if first is None or one.kind == "sql":
                    continue
                if one.kind in STEPS or one.position > first.position:
                    yield Hit(
                        revision.source,
                        one.span,
                        f"qdrant.{one.name} and op.{first.name} (line {first.span.line}) are in one revision",
                    )


def _has_steps(sql: SqlProject) -> bool:
    return any(one.kind != "sql" for found in sql.revisions.values() for one in (*found.upgrade, *found.downgrade))


def _calls_of_env(env: PythonSource, ending: str) -> list[ast.Call]:
    names = imported(env.tree)
    found = [node for node in ast.walk(env.tree) if isinstance(node, ast.Call)]
    return [node for node in found if (full_name(node.func, names) or "").endswith(ending)]


def _one_transaction(project: Project) -> Iterator[Hit]:
    sql = project.sql
    if sql is None or sql.env is None or not _has_steps(sql):
        return
    for call in _calls_of_env(sql.env, "context.configure"):
        given = {one.arg: one.value for one in call.keywords if one.arg}
        if "connection" not in given and not call.args:
            # Offline: no transaction of its own.
            continue
        unpacked = [one.value for one in call.keywords if one.arg is None]
        if any(not isinstance(one, ast.Call) for one in unpacked) and "transaction_per_migration" not in given:
            # It may be in there, as with Flask-Migrate; the bridge looks when it runs.
            continue
        value = given.get("transaction_per_migration")
        if value is None or (isinstance(value, ast.Constant) and value.value is not True):
            yield Hit(sql.env, span(call), "context.configure() has no transaction_per_migration=True")


def _not_integrated(project: Project) -> Iterator[Hit]:
    sql = project.sql
    if sql is None or sql.env is None or sql.env.problem is not None or not _has_steps(sql):
        return
    if not _calls_of_env(sql.env, "integrate"):
        first = next(revision for revision in sql.revisions.values() if _own_steps(revision))
        said = f"{first.source.path.name} has a vector step, and env.py doesn't call qmigrate.alembic.integrate()"
        yield Hit(sql.env, Span(1, 1), said)


def _own_steps(revision: SqlRevision) -> bool:
    return any(one.kind != "sql" for one in (*revision.upgrade, *revision.downgrade))


def _long(project: Project) -> Iterator[Hit]:
    for sql, revision in _pairs(project):
        for one in revision.directives("run", "apply"):
            if one.keyword("max_estimate") is not None:
                continue
            heavy = _run_here(project, sql, revision, one) if one.kind == "run" else _applied_here(revision, one)
            for name, label in heavy:
                points = project.points_of(name)
                if points is None:
                    said = f"qdrant.{one.name} does {label} here, and the number of points of {name} is unknown"
                elif points > project.run_points:
                    said = f"qdrant.{one.name} does {label} here, on {counted(points, 'point')} of {name}"
                else:
                    continue
                yield Hit(revision.source, one.span, said)
                break


def _run_here(
    project: Project, sql: SqlProject, revision: SqlRevision, one: Statement
) -> Iterator[tuple[str, str]]:
    """(collection, operation) of what this step is the first to do, on collections that may be full before it."""
    earlier = [step.step for parent in sql.ancestors(revision.id) for step in _gates(sql.revisions.get(parent))]
    done: set[str] = set()
    for step in earlier:
        done |= project.closure(step)
    mine = [use for use in project.uses if use.revision.id in project.closure(one.step) - done]
    # Whatever creates it in an earlier revision may have done so long ago.
    made = {(use.revision.id, use.name) for use in mine if use.operation.creates}
    for use in mine:
        if (use.revision.id, use.name) not in made and _reads_every_point(use):
            yield use.name, use.operation.label()


def _gates(revision: SqlRevision | None) -> tuple[Statement, ...]:
    return revision.directives("require", "run") if revision is not None else ()


def _reads_every_point(use: Use) -> bool:
    operation = use.operation
    return bool(operation.filled()) or operation.rewrites_payload or type(operation).__name__ in _HEAVY - {"AddVector"}


def _applied_here(revision: SqlRevision, one: Statement) -> Iterator[tuple[str, str]]:
    values = one.keyword("values")
    if one.name == SHORT:
        # Without values the vector is left empty.
        if values is not None and not _is_light(values):
            yield _text(one.keyword("collection")), "AddVector"
        return
    for node in [*one.call.args, *(word.value for word in one.call.keywords)]:
        if not isinstance(node, ast.Call):
            continue
        name = (full_name(node.func, imported(revision.source.tree)) or "").rpartition(".")[2]
        given = {word.arg: word.value for word in node.keywords}
        values = given.get("values")
        if name in _HEAVY and not (values is not None and _is_light(values)):
            yield _text(given.get("collection") or next(iter(node.args), None)), name


def _is_light(values: ast.expr) -> bool:
    return isinstance(values, ast.Call) and (full_name(values.func, {}) or "").rpartition(".")[2] in _LIGHT_VALUES


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "the collection"


def _too_early(project: Project) -> Iterator[Hit]:
    for sql, revision in _pairs(project):
        gates = [
            (found, gate)
            for found in (revision, *(sql.revisions[one] for one in sql.ancestors(revision.id) if one in sql.revisions))
            for gate in found.directives("require", "run", "apply")
        ]
        for one in revision.upgrade:
            if not one.contract:
                continue
            near = [(found, gate) for found, gate in gates if _same_release(project, revision, found)]
            if near:
                found, gate = near[0]
                where = "this revision" if found is revision else found.source.path.name
                step = f" {gate.step}" if gate.step else ""
                said = f"{one.name} takes away what old code uses, in the release of its gate{step} ({where})"
                yield Hit(revision.source, one.span, said)


def _same_release(project: Project, later: SqlRevision, gate: SqlRevision) -> bool:
    """The same file; or made within the time that the old generation is kept, by the dates of the files."""
    if later is gate:
        return True
    if later.created is None or gate.created is None:
        return False
    return (later.created - gate.created).total_seconds() < project.holdover


def _owned_twice(project: Project) -> Iterator[Hit]:
    owners: dict[tuple[str, str], list[tuple[SqlRevision, Statement]]] = {}
    for _, revision in _pairs(project):
        for one in revision.directives("run", "apply", "fix"):
            if one.step is not None:
                owners.setdefault((one.kind, one.step), []).append((revision, one))
    for (_, step), found in owners.items():
        for revision, one in found:
            others = sorted({other.source.path.name for other, _ in found if other is not revision})
            if others:
                yield Hit(revision.source, one.span, f"step {step} belongs to {', '.join(others)}, too")


def _unknown_sql(project: Project) -> Iterator[Hit]:
    sql = project.sql
    if sql is None or sql.problem is not None:
        return
    for source, revision in project.loaded():
        wanted = revision.requires_sql
        if wanted is not None and not any(one.startswith(wanted) for one in sql.revisions):
            yield Hit(source, source.span_of("requires_sql"), f"Alembic has no revision {wanted}")


def _unknown_step(project: Project) -> Iterator[Hit]:
    if any(source.problem is not None for source in project.sources):
        # The file that can't be loaded may be the one that is missed.
        return
    for _, revision in _pairs(project):
        for one in (*revision.upgrade, *revision.downgrade):
            named = one.kind in ("require", "run", "revert") and not project.is_key(one.step)
            if named and one.step is not None and not project.closure(one.step):
                yield Hit(revision.source, one.span, f"there is no revision {one.step} in {project.folder}")


def _deadlock(project: Project) -> Iterator[Hit]:
    sql = project.sql
    if sql is None:
        return
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for name, one in sql.revisions.items():
        sorter.add(f"Alembic's {name}", *(f"Alembic's {parent}" for parent in one.parents))
        for gate in _gates(one):
            sorter.add(f"Alembic's {name}", *(f"qmigrate's {step}" for step in project.closure(gate.step)))
    for _, revision in project.loaded():
        sorter.add(f"qmigrate's {revision.id}", *(f"qmigrate's {parent}" for parent in revision.down))
        for name in sql.revisions if revision.requires_sql else ():
            if name.startswith(revision.requires_sql or ""):
                sorter.add(f"qmigrate's {revision.id}", f"Alembic's {name}")
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = list(error.args[1])
        for name, one in sql.revisions.items():
            gates = _gates(one)
            if f"Alembic's {name}" in circle and gates:
                yield Hit(one.source, gates[0].span, f"each waits for the next: {' ← '.join(circle)}")
                return


def _unreadable(project: Project) -> Iterator[Hit]:
    sql = project.sql
    if sql is None:
        return
    if sql.problem is not None:
        yield Hit(sql.config, Span(1, 1), sql.problem)
    for source in (*sql.sources, *((sql.env,) if sql.env is not None else ())):
        if source.problem is not None:
            yield Hit(source, Span(source.problem_line, source.problem_line), source.problem)


RULES = (
    Rule(
        "QM601",
        "sql-and-step",
        ERROR,
        "SQL and a vector step in one Alembic revision",
        "A vector step is committed on its own: when the SQL next to it fails, one half is done and the revision is "
        "not recorded; and a step after SQL is refused when it runs.",
        "three revisions: SQL that adds, the vector step (or its gate), SQL that takes away",
        _mixed,
    ),
    Rule(
        "QM602",
        "one-transaction",
        ERROR,
        "env.py runs all revisions in one transaction",
        "A failure in a later revision rolls back the record of earlier ones, whose vector steps stay done.",
        "context.configure(…, transaction_per_migration=True)",
        _one_transaction,
    ),
    Rule(
        "QM603",
        "not-integrated",
        ERROR,
        "env.py without the bridge",
        "A vector step in a revision is refused when env.py hasn't called integrate().",
        "qm = qmigrate.alembic.integrate(context, connection), and **qm.options() in configure()",
        _not_integrated,
    ),
    Rule(
        "QM604",
        "long-run",
        WARNING,
        "long work inside `alembic upgrade`",
        "It reads every point while Alembic waits: a deploy that takes seconds takes hours.",
        "qdrant.require(…), and qmigrate upgrade before it; or bound it: max_estimate=\"10m\"; or set in lint.points "
        "how small the collection is",
        _long,
    ),
    Rule(
        "QM605",
        "early-contract",
        WARNING,
        "contract in the release of its gate",
        "While the old generation is kept, a rollback needs the SQL that goes with it.",
        "take it away in a later release, when no rollback is expected",
        _too_early,
    ),
    Rule(
        "QM606",
        "step-owned-twice",
        WARNING,
        "one vector step in two Alembic revisions",
        "Whichever runs first does it, and reverting either reverts it for both.",
        "keep it in one of them, and let the other one wait for it: qdrant.require(…)",
        _owned_twice,
    ),
    Rule(
        "QM607",
        "unknown-sql",
        ERROR,
        "requires_sql of a revision that Alembic doesn't have",
        "`qmigrate upgrade` always stops before it.",
        "repair requires_sql, or bring the file back",
        _unknown_sql,
    ),
    Rule(
        "QM608",
        "unknown-step",
        ERROR,
        "gate of a revision that qmigrate doesn't have",
        "`alembic upgrade` always stops at it.",
        "repair the directive, or bring the revision's file back",
        _unknown_step,
    ),
    Rule(
        "QM609",
        "deadlock",
        ERROR,
        "Alembic and qmigrate wait for each other",
        "Neither `alembic upgrade` nor `qmigrate upgrade` can continue.",
        "split one of the revisions, so that what the other one waits for comes first",
        _deadlock,
    ),
    Rule(
        "QM610",
        "alembic-unreadable",
        WARNING,
        "Alembic's files can't be read",
        "What their revisions do to the collections is not checked.",
        "repair the file, or name the right one: sql.config in qmigrate.yaml",
        _unreadable,
    ),
)
