"""Gates in ``--sql`` scripts: a block that aborts unless the ledger has it as done. It connects to nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alembic.runtime.migration import MigrationContext

from qmigrate.errors import RefusedError
from qmigrate.ledger import tables
from qmigrate.model.names import is_forced
from qmigrate.model.plan import APPLYING, ASIDE
from qmigrate.operations.base import Operation
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.text import quote

_GUARD = """DO $qmigrate$
DECLARE
  missing text;
BEGIN
  IF to_regclass({history}) IS NULL THEN
    RAISE EXCEPTION USING MESSAGE = {message} || ': this database has no ledger of qmigrate', HINT = {hint};
  END IF;
  WITH counted AS (
    SELECT DISTINCT ON (collection, revision) id, collection, revision, direction, strategy
    FROM {history_table} WHERE direction NOT IN ({aside}) ORDER BY collection, revision, id DESC
  ), applied AS (
    SELECT id, collection, revision, strategy FROM counted WHERE direction IN ({applying})
  ), first AS (
    SELECT DISTINCT ON (collection) collection, revision FROM applied WHERE NOT EXISTS (
      SELECT 1 FROM applied AS dropped JOIN applied AS again ON again.collection = dropped.collection
      WHERE dropped.collection = applied.collection AND dropped.strategy = 'drop'
        AND applied.id <= dropped.id AND dropped.id < again.id
    ) ORDER BY collection, id
  ), away AS (
    SELECT collection_name AS collection FROM {views_table} WHERE updated_at IS NOT NULL AND physical_name IS NULL
  ), wanted (revision, name, is_glob, later, exact, creates, parts) AS (
    VALUES {wanted}
  ), each AS (
    SELECT wanted.revision, wanted.later, wanted.name AS collection, wanted.creates, wanted.parts
    FROM wanted WHERE NOT wanted.is_glob
    UNION ALL
    SELECT wanted.revision, wanted.later, first.collection, wanted.creates, wanted.parts
    FROM wanted JOIN first ON wanted.is_glob AND CASE
      WHEN EXISTS (SELECT 1 FROM first AS named WHERE named.collection = wanted.exact)
      THEN first.collection = wanted.exact ELSE first.collection ~ wanted.name
    END
  )
  SELECT string_agg(DISTINCT each.collection || ' (needs ' || each.revision || ')', ', ') INTO missing
  FROM each LEFT JOIN first ON first.collection = each.collection
  WHERE (first.revision IS NULL OR NOT first.revision = ANY (each.later)) AND NOT EXISTS (
    SELECT 1 FROM applied WHERE applied.collection = each.collection AND applied.revision = each.revision
  ) AND (each.parts = ARRAY[]::text[] OR EXISTS (
    SELECT 1 FROM unnest(each.parts) AS part WHERE NOT EXISTS (
      SELECT 1 FROM applied WHERE applied.collection = each.collection
        AND applied.revision = ANY (string_to_array(part, ' '))
    )
  )) AND (each.creates OR first.revision IS NULL OR NOT EXISTS (
    SELECT 1 FROM away WHERE away.collection = each.collection
  ));
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING MESSAGE = {message} || ', which is not done: ' || missing, HINT = {hint};
  END IF;
{link}END
$qmigrate$;
"""
_NO_ROW = "('', '', NULL::boolean, '{}'::text[], NULL::text, false, '{}'::text[])"
_LINK = """  INSERT INTO {links_table} (version_table, sql_revision, step, directive, state, actor, created_at)
  VALUES ({version_table}, {sql_revision}, {step}, {directive}, 'linked', 'sql script', clock_timestamp())
  ON CONFLICT (version_table, sql_revision, step) DO NOTHING;
"""
_UNLINK = """DO $qmigrate$
BEGIN
  IF to_regclass({links}) IS NOT NULL THEN
    DELETE FROM {links_table} WHERE version_table = {version_table} AND sql_revision = {sql_revision};
  END IF;
END
$qmigrate$;
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a script must not go past.

    Attributes:
        sql_revision: of Alembic; None where it isn't known.
        version_table: of Alembic, with its schema.
        step: our revision or key.
        directive: as it is called.
        schema: of the ledger's tables; None for the connection's default.
    """

    sql_revision: str | None
    version_table: str
    step: str
    directive: str
    schema: str | None


def guard_revision(context: MigrationContext, passage: Passage, revisions: Revisions) -> None:
    """Emit the guard of a revision that has a file.

    Raises:
        RefusedError: the dialect has no such block.
    """
    found = revisions.standing_for(passage.step)
    wanted = revisions.ancestors(found.id) | {found.id}
    replaced = {old for one in revisions.squashed() if one.id in wanted for old in one.replaces}
    rows = []
    for one in revisions.order():
        later = [other.id for other in revisions.order() if one.id in revisions.ancestors(other.id)]
        # What was squashed and has no file any more comes after whatever the whole comes after.
        whole = [other for other in revisions.squashed() if other.id in later and one.id not in other.replaces]
        later += [old for other in whole for old in other.replaces]
        if one.id in wanted and one.id not in replaced:
            rows += list(_rows(one.id, one.operations, dict.fromkeys(later), one))
    _emit(context, passage, rows, f"qmigrate upgrade {quote(found.id)}")


def guard_inline(context: MigrationContext, passage: Passage, operations: Sequence[Operation]) -> None:
    """Emit the guard of a step that has none."""
    hint = "run this revision once without --sql, or write the step into a revision file"
    _emit(context, passage, list(_rows(passage.step, operations, [])), hint)


def forget(context: MigrationContext, passage: Passage) -> None:
    """Emit the removal of the links of a revision that is reverted."""
    names = {
        "links": _text(_named(passage.schema, tables.alembic_links.name)),
        "links_table": _named(passage.schema, tables.alembic_links.name),
        "version_table": _text(passage.version_table),
        "sql_revision": _text(str(passage.sql_revision)),
    }
    context.impl.static_output(_UNLINK.format(**names))


def refuse(context: MigrationContext, what: str) -> RefusedError:
    """A script can't do it."""
    return RefusedError(
        f"{what} can't be written into a script (--sql, {context.dialect.name})",
        hint="run Alembic without --sql, or skip it knowingly: -x qdrant=skip",
    )


def _emit(context: MigrationContext, passage: Passage, rows: list[str], hint: str) -> None:
    if context.dialect.name != "postgresql":
        raise refuse(context, f"the gate of vector revision {passage.step}")
    who = f"Alembic revision {passage.sql_revision}" if passage.sql_revision else "this Alembic revision"
    history = _named(passage.schema, tables.history.name)
    link = _LINK.format(
        links_table=_named(passage.schema, tables.alembic_links.name),
        version_table=_text(passage.version_table),
        sql_revision=_text(str(passage.sql_revision)),
        step=_text(passage.step),
        directive=_text(passage.directive),
    )
    context.impl.static_output(f"-- vector revision {passage.step} must be done before the script continues")
    context.impl.static_output(
        _GUARD.format(
            history=_text(history),
            history_table=history,
            views_table=_named(passage.schema, tables.views.name),
            aside=", ".join(_text(one) for one in sorted(ASIDE)),
            applying=", ".join(_text(one) for one in sorted(APPLYING)),
            wanted=",\n           ".join(rows or [_NO_ROW]),
            message=_text(f"{who} needs the vector revision {passage.step}"),
            hint=_text(hint),
            link=link if passage.sql_revision else "",
        )
    )


def _rows(
    revision: str, operations: Iterable[Operation], later: Iterable[str], squashed: Revision | None = None
) -> Iterable[str]:
    """One per pattern; what a glob creates is made by the application, in its own time.

    Args:
        squashed: the same revision with what it replaces: a collection that has all of its parts has it.
    """
    array = _array(later)
    about: dict[tuple[str, bool, bool], bool] = {}
    for one in operations:
        if not (one.creates and one.is_glob):
            key = (one.pattern, one.is_glob, is_forced(one.written))
            about[key] = about.get(key, False) or one.creates
    for (pattern, is_glob, forced), creates in about.items():
        name = _regex(pattern) if is_glob else pattern
        # A collection of that very name is the only one that is meant.
        exact = _text(pattern) if is_glob and not forced else "NULL::text"
        glob, makes = ("true" if one else "false" for one in (is_glob, creates))
        parts = _parts(squashed, pattern) if squashed is not None else ()
        yield f"({_text(revision)}, {_text(name)}, {glob}, {array}, {exact}, {makes}, {_array(parts)})"


def _parts(squashed: Revision, pattern: str) -> Iterable[str]:
    """What makes up all of it for a pattern; behind each what stands for it, too, where that was squashed itself."""
    parts, inner = dict(squashed.replaces_for).get(pattern, squashed.replaces), dict(squashed.squashed)
    for one in parts:
        if set(parts).isdisjoint(inner.get(one, ())):
            yield " ".join([one, *(whole for whole, ids in inner.items() if one in ids)])


def _array(texts: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(_text(one) for one in texts) + "]::text[]"


def _regex(pattern: str) -> str:
    """A glob as PostgreSQL's regular expression."""
    signs = re.findall(r"\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    return "^" + "".join(_sign(one) for one in signs) + "$"


def _sign(sign: str) -> str:
    if sign in ("*", "?"):
        return ".*" if sign == "*" else "."
    if len(sign) > 1:
        inner = sign[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return sign if sign.isalnum() or sign in "_-" else f"\\{sign}"


def _named(schema: str | None, name: str) -> str:
    quoted = '"{}"'.format(schema.replace('"', '""')) if schema else None
    return f"{quoted}.{name}" if quoted else name


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
