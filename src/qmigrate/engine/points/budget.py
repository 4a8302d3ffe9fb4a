"""How many tokens a build may embed, and for how much money. It counts before anything is sent, and embeds nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qmigrate.embed import price_of
from qmigrate.errors import BudgetError, PlanError
from qmigrate.model.facts.phases import Fill
from qmigrate.operations.values import Embed
from qmigrate.ports import CountsTokens
from qmigrate.text import quote

if TYPE_CHECKING:
    from qmigrate.engine.work import Work
    from qmigrate.settings.sections import BudgetSettings

_MILLION = 1_000_000


class Budget:
    """What is left of it; the threads of a copy share it.

    Args:
        limits: of the settings.
        spent: tokens by embedder, of earlier attempts.
    """

    def __init__(self, work: Work, limits: BudgetSettings, spent: Mapping[str, int] | None) -> None:
        self._work = work
        self._limits = limits
        self._lock, self._noting = threading.Lock(), threading.Lock()
        self.spent: dict[str, int] = dict(spent or {})

    def take(self, name: str, items: Sequence[Any]) -> None:
        """Count what is about to be embedded.

        Raises:
            BudgetError: it would be more than is left; nothing of it was sent.
        """
        embedder = self._work.code.embedder(name)
        texts = [one for one in items if isinstance(one, str)]
        counted = embedder.count_tokens(texts) if isinstance(embedder, CountsTokens) else None
        if counted is None:
            raise _unknown(name, "how many tokens a text has is not known")
        with self._lock:
            fresh = {**self.spent, name: self.spent.get(name, 0) + sum(counted)}
            tokens, money = sum(fresh.values()), self._money(fresh)
            most, dear = self._limits.tokens, self._limits.money
            if (most is not None and tokens > most) or (dear is not None and money > dear):
                used = f"{sum(self.spent.values()):,} tokens, {self._money(self.spent):.2f} in money"
                raise BudgetError(
                    f"{self._work.collection}: the budget is used up ({used}); stopped at a checkpoint",
                    hint="raise rebuild.budget in qmigrate.yaml and run the same command again: it continues from "
                    f"here; or qmigrate abort {quote(self._work.collection)}",
                    facts={"tokens": dict(self.spent), "money": round(self._money(self.spent), 4)},
                )
            self.spent = fresh

    def note(self) -> None:
        """Journal what was spent: the next attempt goes on from there, also where this process is killed."""
        with self._noting:
            self._work.note(replace(self._work.facts(Fill), spent=dict(self.spent)))

    def _money(self, spent: Mapping[str, int]) -> float:
        prices = self._work.settings.embedders
        return sum(number / _MILLION * (price_of(prices.get(name, {})) or 0.0) for name, number in spent.items())


def check_budget(work: Work, fillings: Sequence[Embed], *, shared: bool) -> None:
    """A budget must be one that can be kept: with prices, with models whose tokens can be counted, by one process.

    Args:
        shared: whether several processes embed.

    Raises:
        PlanError: it can't be.
    """
    limits = work.settings.rebuild.budget
    if limits is None or not fillings:
        return
    if shared:
        raise PlanError(
            f"{work.collection}: rebuild.budget is for one process, and this build is shared by several",
            hint="rebuild.devices: [] or engine: local; or leave the budget out",
        )
    for name in sorted({one.embedder for one in fillings}):
        embedder = work.code.embedder(name)
        if not isinstance(embedder, CountsTokens) or embedder.count_tokens(["a"]) is None:
            raise _unknown(name, "how many tokens a text has is not known")
        if limits.money is not None and price_of(work.settings.embedders.get(name, {})) is None:
            raise _unknown(name, "it has no price")


def _unknown(name: str, why: str) -> PlanError:
    return PlanError(
        f"rebuild.budget can't be kept with embedder {name!r}: {why}",
        hint="give it price: (money for a million tokens) and tokenizer: (its tokenizer.json) in qmigrate.yaml; or "
        "leave the budget out",
    )
