"""QM4: vectors and what fills them, against the settings and against what the same revision does to the payload."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from qmigrate.embed import known_kind, known_size, ranks_words
from qmigrate.errors import PlanError
from qmigrate.lint.change_rules import each_operation
from qmigrate.lint.code_rules import functions_of_operation
from qmigrate.lint.project import Project, Use
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.model.schema import JsonObject
from qmigrate.model.statement import repeats
from qmigrate.operations.checks import KINDS, kind_of, shown
from qmigrate.operations.values import FILL_ME
from qmigrate.operations.vector_common import params_of
from qmigrate.revisions.python_source import definition
from qmigrate.text import did_you_mean


def _embedded(project: Project) -> Iterator[tuple[Use, str, str, Mapping[str, Any], JsonObject]]:
    """Use, vector, embedder, its settings, and the parameters of the vector, of what is filled by a known embedder."""
    for use in project.uses:
        for vector, value in use.operation.embeds().items():
            configured = project.embedder(use.name, value.embedder)
            declared = getattr(use.operation, "params", None)
            if declared is None and use.before is not None:
                declared = params_of(use.before, vector)
            if configured and declared is not None:
                yield use, vector, value.embedder, configured, declared


def _size(project: Project) -> Iterator[Hit]:
    for use, vector, embedder, configured, declared in _embedded(project):
        made, wanted = known_size(configured), declared.get("size")
        if isinstance(made, int) and isinstance(wanted, int) and made != wanted:
            said = f"vector {shown(vector)} has {wanted} values, and embedder {embedder} makes {made}"
            yield Hit(use.source, use.span, said)


def _kind(project: Project) -> Iterator[Hit]:
    for use, vector, embedder, configured, declared in _embedded(project):
        made, wanted = known_kind(configured), kind_of(declared)
        if made is not None and made != wanted:
            said = f"vector {shown(vector)} is for {KINDS[wanted]}, and embedder {embedder} makes {KINDS[made]}"
            yield Hit(use.source, use.span, said)


def _without_idf(project: Project) -> Iterator[Hit]:
    for use, vector, embedder, configured, declared in _embedded(project):
        if ranks_words(configured) and kind_of(declared) == "sparse" and declared.get("modifier") != "idf":
            said = f"vector {shown(vector)} gets words of embedder {embedder}, and has no modifier=Modifier.IDF"
            yield Hit(use.source, use.span, said)


def _asks(project: Project) -> Iterator[Hit]:
    for use, vector, embedder, configured, _ in _embedded(project):
        if configured.get("task") == "query":
            yield Hit(use.source, use.span, f"vector {shown(vector)} is filled by {embedder}, which is for questions")


def _unknown_embedder(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for value in use.operation.embeds().values():
            if project.embedder(use.name, value.embedder) is None:
                known = {**project.embedders.get("", {}), **project.embedders.get(use.name, {})}
                meant = did_you_mean(value.embedder, known)
                yield Hit(use.source, use.span, f"embedder {value.embedder} is not configured{meant}")


def _unpinned(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for value in use.operation.embeds().values():
            configured = project.embedder(use.name, value.embedder) or {}
            kind = {"callable": "a function", "qdrant": "a model of the server"}.get(str(configured.get("type")))
            if kind is not None and not configured.get("version") and not ranks_words(configured):
                yield Hit(use.source, use.span, f"embedder {value.embedder} is {kind} without a version")


def _field_gone(project: Project) -> Iterator[Hit]:
    for source, revision in project.loaded():
        removed = {
            field
            for operation in revision.operations
            if operation.rewrites_payload
            for function in functions_of_operation(operation)
            if function is getattr(operation, "function", None)
            for field in _removed(definition(source, function))
        }
        for index, operation in enumerate(revision.operations):
            for vector, value in operation.embeds().items():
                gone = sorted(field for field in value.fields() if field.split(".")[0] in removed)
                if gone:
                    place = source.span_of_operation(operation, index)
                    said = f"vector {shown(vector)} is embedded from {gone[0]!r}, which is removed here"
                    yield Hit(source, place, said)


def _removed(node: ast.AST | None) -> Iterator[str]:
    """Keys that a function pops or deletes."""
    for one in ast.walk(node) if node is not None else ():
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "pop" and one.args:
            yield from _text(one.args[0])
        elif isinstance(one, ast.Delete):
            for target in one.targets:
                if isinstance(target, ast.Subscript):
                    yield from _text(target.slice)


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _rounded(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if use.before is None or use.problem is not None or use.operation.creates:
            continue
        for vector in sorted(_converted(use)):
            after = use.after()
            params = params_of(after, vector) if after else None
            form = (params or {}).get("datatype") or (params or {}).get("distance")
            yield Hit(use.source, use.span, f"every value of vector {shown(vector)} is stored in another form: {form}")


def _converted(use: Use) -> frozenset[str]:
    assert use.before is not None  # noqa: S101  the caller looked
    try:
        return use.operation.transform(use.before).converted
    except PlanError:
        return frozenset()


def fill_me(project: Project) -> Iterator[Hit]:
    """What fills a vector, or fills it again on the way back, is not decided."""
    for source, revision in project.loaded():
        for index, operation in enumerate(revision.operations):
            if getattr(operation, "values", None) is FILL_ME:
                place = source.span_of_operation(operation, index)
                yield Hit(source, place, f"{operation.label()}: what fills the vector is not decided")
        if "FILL_ME" in _names(source.function("downgrade")):
            place = source.span_of_function("downgrade")
            yield Hit(source, place, f"downgrade() of {revision.id}: what fills the vector again is not decided")


def _names(node: ast.AST | None) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} if node is not None else set()


def _told_twice(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        for vector, value in use.operation.embeds().items():
            if value.write_back is not None and repeats(value.write_back.sql):
                yield Hit(use.source, use.span, f"the write-back of vector {shown(vector)} inserts a row each time")


RULES = (
    Rule(
        "QM401",
        "size-mismatch",
        ERROR,
        "vector size that the embedder doesn't make",
        "The upgrade would stop before its first write.",
        "make the sizes agree in the revision or in qmigrate.yaml",
        _size,
    ),
    Rule(
        "QM402",
        "unknown-embedder",
        ERROR,
        "embedder that the settings don't have",
        "The upgrade would stop before its first write.",
        "add it under embedders: in qmigrate.yaml",
        _unknown_embedder,
    ),
    Rule(
        "QM403",
        "unpinned-model",
        WARNING,
        "model without a version",
        "What fills the vector may change unnoticed; vectors of two models don't compare.",
        "give it a version: in qmigrate.yaml, and another one whenever its answers change",
        _unpinned,
    ),
    Rule(
        "QM404",
        "embedded-field-removed",
        ERROR,
        "field removed by the revision that embeds it",
        "The new generation lacks what its vector is made of: it can't be proven, nor filled again.",
        "embed in this revision, and remove the field in a later one",
        _field_gone,
    ),
    Rule(
        "QM405",
        "rounded",
        WARNING,
        "stored values that are rounded or normalised",
        "What is lost doesn't come back, and neighbours may change for many points.",
        "compare search results on a sample first (upgrade --rehearse), or add it as a vector of its own",
        _rounded,
    ),
    Rule(
        "QM407",
        "fill-me",
        ERROR,
        "vector whose filling is not decided",
        "A generated revision never guesses: the plan would stop at it.",
        'values=Embed(…), Compute(…), CopyOf(…) or Empty(); of a downgrade() also irreversible = "why" in its place',
        fill_me,
    ),
    Rule(
        "QM408",
        "kind-mismatch",
        ERROR,
        "kind of vector that the embedder doesn't make",
        "The upgrade would stop before its first write.",
        "SparseVectorParams() for bm25 and splade, VectorParams(…, multivector_config=…) for colbert, VectorParams(…) "
        "for the others",
        _kind,
    ),
    Rule(
        "QM409",
        "words-without-idf",
        WARNING,
        "words that are not weighed by how rare they are",
        "Without the modifier common words count as much as rare ones: that is not BM25.",
        "SparseVectorParams(modifier=Modifier.IDF)",
        _without_idf,
    ),
    Rule(
        "QM410",
        "filled-by-questions",
        WARNING,
        "points embedded as questions",
        "Prefixes and weights of questions are others than those of texts: both sides would be embedded alike.",
        "an embedder with task: document; that of questions is for quality=Compare(…, embedder=…)",
        _asks,
    ),
    Rule(
        "QM406",
        "write-back-repeats",
        WARNING,
        "write-back that inserts",
        "It is carried out at least once: after a crash rows would be there twice, or a unique key would stop it.",
        "declare what becomes of a row that is there: INSERT … ON CONFLICT (…) DO UPDATE, or an UPDATE",
        _told_twice,
    ),
)
