"""QM3: what a change means for those who read and write, and whether there is a way back."""

from __future__ import annotations

from collections.abc import Iterator

from qmigrate.errors import PlanError
from qmigrate.lint.project import Project, Use
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.checks import shown
from qmigrate.operations.collection import SetAlias
from qmigrate.operations.vector import AddVector, AlterVector, DropVector, Reembed, RenameVector


def each_operation(project: Project) -> Iterator[Use]:
    """Uses, the same operation on several collections once."""
    seen = set()
    for use in project.uses:
        key = (use.source.path, use.index)
        if key not in seen:
            seen.add(key)
            yield use


def no_cutover(project: Project) -> Iterator[Hit]:
    """Reader-incompatible operations without `cutover=`."""
    for use in each_operation(project):
        if getattr(use.operation, "cutover", "not declared") is None:
            trouble = _incompatible(use)
            if trouble:
                yield Hit(use.source, use.span, f"{use.operation.label()}: {trouble}, and cutover= is missing")


def _incompatible(use: Use) -> str | None:
    if use.before is not None:
        return use.operation.incompatible(use.before)
    # Dropping, renaming and filling again are so whatever the schema is.
    if isinstance(use.operation, DropVector | RenameVector | Reembed):
        return use.operation.incompatible(CollectionSchema())
    return None


def _lost(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if not _says_its_way_back(use) and _loses(use):
            yield Hit(use.source, use.span, f"{use.operation.label()}: {_reason(use)}")


def _stuck(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if not _says_its_way_back(use) and not _loses(use):
            reason = _reason(use)
            if reason:
                yield Hit(use.source, use.span, f"{use.operation.label()}: {reason}")


def _says_its_way_back(use: Use) -> bool:
    return use.revision.has_downgrade or bool((use.revision.irreversible or "").strip())


def _loses(use: Use) -> bool:
    """Whether points or values are lost, not only a setting or a payload."""
    if use.operation.drops or isinstance(use.operation, DropVector | Reembed):
        return True
    if use.before is None or use.problem is not None or use.operation.creates:
        return False
    transform = use.operation.transform(use.before)
    return bool(use.before.vector_names() - set(transform.vectors.values()))


def _reason(use: Use) -> str | None:
    if use.problem is not None:
        return None
    if use.before is None:
        vector = getattr(use.operation, "vector", None)
        if use.operation.drops:
            return "the points stay only in the generation that is kept until gc"
        if isinstance(use.operation, DropVector | Reembed):
            return f"the old values of vector {shown(vector)} stay only in the previous generation"
        return None
    try:
        return use.operation.irreversible_reason(use.before)
    except PlanError:
        return None


def _swapped_at_once(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if not isinstance(use.operation, DropVector):
            continue
        added = [
            one
            for one in use.revision.operations
            if isinstance(one, AddVector) and (one.matches(use.name) or one.pattern == use.operation.pattern)
        ]
        for one in added:
            yield Hit(
                use.source,
                use.span,
                f"vector {shown(use.operation.vector)} is dropped in the same revision that adds {shown(one.vector)}",
            )


def _same_name(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if isinstance(use.operation, AlterVector | Reembed) and use.operation.cutover is not None:
            trouble = _incompatible(use)
            if trouble:
                yield Hit(use.source, use.span, f"{trouble}, under its old name")


def _renamed(project: Project) -> Iterator[Hit]:
    for use in each_operation(project):
        if isinstance(use.operation, RenameVector):
            yield Hit(
                use.source, use.span, f"{use.operation.incompatible(CollectionSchema())} from one moment to the next"
            )


def _alias_taken(project: Project) -> Iterator[Hit]:
    holder: dict[str, str] = {}
    for use in each_operation(project):
        if isinstance(use.operation, SetAlias):
            before = holder.get(use.operation.alias)
            if before not in (None, use.operation.collection):
                yield Hit(use.source, use.span, f"the alias {use.operation.alias} goes from {before} to {use.name}")
            holder[use.operation.alias] = use.operation.collection


RULES = (
    Rule(
        "QM301",
        "no-cutover",
        ERROR,
        "reader-incompatible change without cutover=",
        "Existing readers and writers will fail, so when it goes live has to be decided in review.",
        'add a new vector and drop the old one later; or cutover="immediate", and deploy the readers together with it',
        no_cutover,
    ),
    Rule(
        "QM302",
        "values-lost",
        ERROR,
        "values lost without a stated way back",
        "They stay only in the previous generation, which gc removes after its holdover.",
        'irreversible = "why that is fine", or a downgrade() that makes them again',
        _lost,
    ),
    Rule(
        "QM303",
        "not-reversible",
        WARNING,
        "change that can't be reversed by itself",
        "A rollback stops at it once the previous generation is gone.",
        'irreversible = "why that is fine", or a downgrade()',
        _stuck,
    ),
    Rule(
        "QM304",
        "no-time-to-switch",
        WARNING,
        "vector replaced within one revision",
        "Readers have no moment at which both are there: some ask for a vector that is gone or not there yet.",
        "add it now, let the application switch, drop the old one in a later revision",
        _swapped_at_once,
    ),
    Rule(
        "QM305",
        "same-name",
        WARNING,
        "size, distance or model changed under the old name",
        "A query made with the old model finds unrelated neighbours, without an error.",
        "add a vector with a new name next to it, and drop the old one later",
        _same_name,
    ),
    Rule(
        "QM306",
        "renamed",
        WARNING,
        "vector renamed without a time when both names work",
        "Every reader and writer has to be deployed in the same moment.",
        "add the new name with CopyOf, let the application switch, drop the old one later",
        _renamed,
    ),
    Rule(
        "QM307",
        "alias-taken",
        WARNING,
        "alias taken from another collection",
        "Clients of the alias read other points from one moment to the next.",
        "use a new alias, or name in the docstring the clients that are prepared",
        _alias_taken,
    ),
)
