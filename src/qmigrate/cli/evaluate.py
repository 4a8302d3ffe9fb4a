"""evaluate and try-models: whether another model finds better."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.layout import Text, columns, short
from qmigrate.cli.report import html_option
from qmigrate.cli.shell import Number, Shell, with_shell
from qmigrate.text import counted, number, size, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.evaluate import Evaluated
    from qmigrate.commands.try_models import TriedModels
    from qmigrate.model.facts.comparison import Compared, Figure, Segment
    from qmigrate.operations.quality import Compare, Queries

#: Exit code of a new search that may not serve.
WORSE = 5
_WHOLE, _SHARE, _SURE = click.IntRange(1, 10_000), Number(0, 2, min_open=True), Number(0.5, 0.999)
_MEASURE = click.Choice(("ndcg", "recall", "mrr", "overlap"))
#: Misses that people see, and letters of each question.
_MISSES, _LETTERS = 5, 60


def show_evaluated(console: Console, found: Evaluated) -> None:
    """Figures of both, per segment, the worst misses, and the decision."""
    console.print(Text.assemble((found.a, "bold"), " → ", (found.b, "bold"), f"  {found.result.questions}"))
    show_compared(console, found.result)


def show_compared(console: Console, found: Compared) -> None:
    """The same without its head."""
    rows = [_row(one, found) for one in (found.total, *found.segments)]
    header = ("", "questions", f"recall@1, {found.k}", "MRR", f"nDCG@{found.k}", "overlap", "p50, p95, p99 ms", "")
    console.print()
    for line in columns(rows, header=header, right={1}):
        console.print(line)
    if found.misses:
        shown = number(min(len(found.misses), _MISSES))
        console.print(f"\n  answered worse ({shown} of the worst; all: --html FILE, --json)")
    for miss in found.misses[:_MISSES]:
        console.print(Text(f"  {short(miss.question, _LETTERS)}", style="bold"))
        for label, ids in (("relevant", miss.relevant), ("before", miss.before), ("now", miss.after)):
            console.print(f"    {label:<9}{', '.join(map(str, ids)) or '–'}")
    console.print()
    if found.unanswered:
        console.print(f"  {counted(found.unanswered, 'question')} could not be asked of both")
    verdict = ("GO", "bold green") if found.go else ("NO-GO", "bold red")
    console.print(Text.assemble(verdict, f"  {found.reason}"))


def _row(one: Segment, found: Compared) -> tuple[Text | str, ...]:
    before, after = one.before, one.after
    times = [f"{getattr(before, name):.1f} → {getattr(after, name):.1f}" for name in ("p50", "p95", "p99")]
    return (
        one.name or "all",
        number(one.questions),
        f"{_pair(before.recall_1, after.recall_1)} · {_pair(before.recall, after.recall)}",
        _pair(before.mrr, after.mrr),
        _pair(before.ndcg, after.ndcg, ends=True),
        f"{one.overlap.value:.2f}",
        " · ".join(times),
        one.state if one is not found.total else "",
    )


def _pair(before: Figure | None, after: Figure | None, *, ends: bool = False) -> str:
    if before is None or after is None:
        return "–"
    interval = f" ({after.low:.2f}–{after.high:.2f})" if ends else ""
    return f"{before.value:.2f} → {after.value:.2f}{interval}"


_QUESTIONS = {
    "queries": click.option("--queries", metavar="FILE", help="Questions: JSON Lines or CSV with query and relevant."),
    "sql": click.option("--sql", metavar="SELECT", help="Questions of SQL: columns query and relevant."),
    "database": click.option("--database", default="app", show_default=True, metavar="NAME", help="Of --sql."),
    "known_item": click.option("--known-item", metavar="FIELD", help="A text of each point asks for its own point."),
    "sentence": click.option("--sentence", metavar="FIELD", help="A sentence of a text asks for its own point."),
    "same_value": click.option("--same-value", metavar="FIELD", help="A point asks for those with the same value."),
    "by": click.option("--by", metavar="FIELD", help="Group questions by this: a language, for instance."),
    "count": click.option("--count", type=_WHOLE, default=1000, show_default=True, help="Most questions."),
    "results": click.option("-k", "--results", type=_WHOLE, default=10, show_default=True, help="Results that count."),
}


def question_options(command: Any, *, without: Collection[str] = ()) -> Any:
    """The options by which questions are chosen.

    Args:
        command: that takes them.
        without: names of those that it doesn't take.
    """
    for name in reversed([one for one in _QUESTIONS if one not in without]):
        command = _QUESTIONS[name](command)
    return command


def queries_of(given: dict[str, Any]) -> Queries:
    """Where the questions come from.

    Raises:
        UsageError: nothing, or several things, say so.
    """
    from qmigrate.errors import UsageError
    from qmigrate.operations.quality import KnownItem, Logged, SameValue, Sentence

    makes: dict[str, Any] = {
        "queries": str,
        "sql": lambda sql: Logged(sql, database=given["database"]),
        "known_item": KnownItem,
        "sentence": Sentence,
        "same_value": SameValue,
    }
    chosen = [name for name in makes if given[name] is not None]
    if len(chosen) != 1:
        raise UsageError(
            "say where the questions come from, by one of --queries, --sql, --known-item, --sentence, --same-value",
            hint="--known-item title needs no file: the title of a point asks for that point",
        )
    made: Queries = makes[chosen[0]](given[chosen[0]])
    return made


@click.command()
@click.argument("a")
@click.argument("b")
@question_options
@click.option("--at-least", type=_SHARE, default=0.98, show_default=True, help="Share of A's figure that B must reach.")
@click.option("--measure", type=_MEASURE, default="ndcg", show_default=True, help="What is decided by.")
@click.option("--confidence", type=_SURE, default=0.95, show_default=True, help="Of the decision.")
@click.option("--embedder-a", metavar="NAME", help="Of the questions for A.  [default: the one that filled it]")
@click.option("--embedder-b", metavar="NAME", help="Of the questions for B.")
@html_option
@with_shell
def evaluate(shell: Shell, a: str, b: str, **given: Any) -> int:
    """Compare search in A with search in B on the same questions, and say whether B may take its place.

    A and B are collections, aliases or generations; a vector stands behind a slash: docs/title. Exits with 5 for NO-GO.
    """
    import qmigrate.commands.evaluate as command

    with shell.progress() as progress:
        found = command.evaluate(shell.settings(), a, b, _wanted(given), progress=progress)
    shell.show(found, show_evaluated)
    return 0 if found.result.go else WORSE


def _wanted(given: dict[str, Any]) -> Compare:
    from qmigrate.operations.quality import Compare

    return Compare(
        queries_of(given),
        at_least=given["at_least"],
        k=given["results"],
        by=given["by"],
        measure=given["measure"],
        confidence=given["confidence"],
        count=given["count"],
        embedder=given["embedder_b"],
        old_embedder=given["embedder_a"],
    )


def show_tried(console: Console, found: TriedModels) -> None:
    """A row per model; money and time are of the whole collection."""
    head = f"  {number(found.sampled)} of {counted(found.points, 'point')}, {counted(found.questions, 'question')}"
    console.print(Text.assemble((found.collection, "bold"), head))
    console.print()
    rows = []
    for one in found.models:
        figures, against = one.figures, one.compared
        state = "" if against is None else "as good" if against.go else against.total.state
        cost = "unknown" if one.cost.money is None else f"{one.cost.money[0]:.2f} to {one.cost.money[1]:.2f}"
        values = (figures.recall_1, figures.recall, figures.mrr, figures.ndcg)
        rows.append(
            (
                one.embedder,
                *("–" if value is None else f"{value.value:.3f}" for value in values),
                number(one.size),
                size(one.bytes_per_point),
                f"{one.items_per_second:,.0f}",
                took(one.seconds),
                cost,
                state,
            )
        )
    header = ("", "recall@1", "recall", "MRR", "nDCG", "size", "per point", "items/s", "time", "money", "")
    for line in columns(rows, header=header, right={1, 2, 3, 4, 5, 6, 7}):
        console.print(line)
    for one in found.models:
        if one.failed:
            console.print(f"  {one.embedder}: {counted(one.failed, 'item')} without a vector")


@click.command("try-models")
@click.argument("collection")
@click.option("--embedder", "embedders", multiple=True, required=True, metavar="NAME", help="One to try; repeat it.")
@click.option("--text", metavar="FIELD", help='What is embedded: a field, or "{title} {body}".')
@click.option("--image", metavar="FIELD", help="The same for images.")
@click.option("--sample", type=click.IntRange(20, 100_000), default=2000, show_default=True, help="Points at random.")
@functools.partial(question_options, without=("count",))
@click.option("--at-least", type=_SHARE, default=0.98, show_default=True, help="Share of the first one's nDCG.")
@html_option
@with_shell
def try_models(shell: Shell, collection: str, **given: Any) -> int:
    """Embed a sample of COLLECTION by each embedder, and ask each the same questions.

    Shows quality, size, speed here, and time and money for the whole collection. It writes nothing.
    """
    import qmigrate.commands.try_models as command

    wanted = command.TryWanted(
        embedders=tuple(given["embedders"]),
        queries=queries_of(given),
        text=given["text"],
        image=given["image"],
        sample=given["sample"],
        k=given["results"],
        at_least=given["at_least"],
        by=given["by"],
    )
    with shell.progress() as progress:
        found = command.try_models(shell.settings(), collection, wanted, progress=progress)
    shell.show(found, show_tried)
    return 0
