"""What an earlier fix has changed, and what was there before it: found again from its journal. It changes nothing.

Where points have other ids since, they are found by these: a value goes back to the point that it was of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.model.fix import Entry, Found, same_keys
from qmigrate.model.payload_path import BLOCKED
from qmigrate.model.schema import JsonObject
from qmigrate.steps.erasing.spaces import Spaces
from qmigrate.steps.export import described
from qmigrate.steps.fixes.journal import journal_name, windows
from qmigrate.steps.fixes.other_ids import OtherIds
from qmigrate.steps.fixes.payload import PayloadFix
from qmigrate.steps.fixes.protocol import Place


class Undo(PayloadFix):
    """Gives points back what a fix has taken from them; see ``qmigrate fix undo``.

    Args:
        place: where it looks.
        edit: ``run``, ``step`` and ``generation`` of the fix, ``log`` (its row of the audit), ``overwrite`` (also what
            was changed since), ``erased`` (points of it that were erased since), ``drops`` (what the fix has kept goes
            at the end: its run is undone), ``nothing`` (it had not begun to change anything).
    """

    def __init__(self, place: Place, edit: JsonObject) -> None:
        self._place = place
        self._edit = edit
        self._journal = journal_name(edit["run"], edit["step"])

    def close(self) -> None:
        """Nothing is open."""

    def share(self) -> float | None:
        """No cap: it restores what was there."""
        return None

    def find(self, found: Found) -> Iterator[Entry]:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`; counts ``newer`` (changed since) and ``gone`` points.

        Raises:
            RefusedError: it is too long ago, or which ids points have now is unknown.
        """
        place = self._place
        if self._edit.get("nothing"):
            return
        if not place.ledger.has_base(self._journal):
            if self._edit.get("drops"):
                return
            raise RefusedError(
                f"what fix {self._edit.get('log')} has changed is not recorded any more: it could be undone for "
                f"{place.settings.fixes.undo / 3600:g} h",
                hint="fixes.undo in qmigrate.yaml sets how long that is; or restore a snapshot: qmigrate snapshot list",
            )
        self._refuse_others()
        ids = OtherIds(place, self._edit.get("generation"), self._edit.get("log"))
        found.counts.update({"newer": 0, "gone": 0})
        if self._edit.get("erased"):
            found.counts["erased"] = int(self._edit["erased"])
        found.points = place.store.count(place.address)
        for entries in windows(place.ledger, self._journal, size=self.window):
            now = ids.of([entry.id for entry in entries])
            found.add("gone", len(entries) - len(now))
            yield from self._window(found, [entry._replace(id=now[entry.id]) for entry in entries if entry.id in now])

    def still(self, entries: Sequence[Entry]) -> list[Entry]:
        """All of them: what they should be does not change any more."""
        return list(entries)

    def audit(self, facts: JsonObject) -> Fixed:
        """It deletes no vector, so its count is 0."""
        number = self._edit.get("log")
        return Fixed("UNDO", f"fix {number}", 0, self._edit.get("reason"), {**facts, "undoes": number})

    def _refuse_others(self) -> None:
        """See that points are not only called as those that the fix was about: behind a reset they are other ones.

        Raises:
            RefusedError: they are.
        """
        place, then = self._place, str(self._edit.get("generation"))
        live = described(place.store, place.address).physical
        if place.code is None or then == live:
            return
        spaces = Spaces(place.ledger, place.code, place.collection, frozenset())
        if spaces.root(then) != spaces.root(live):
            raise RefusedError(
                f"fix {self._edit.get('log')} has changed points of {then}, and those of {live} are other ones: one of "
                "the two began empty, by a reset or anew",
                hint="go back to where it was first (qmigrate fix undo of the reset, or qmigrate rollback)",
            )

    def _window(self, found: Found, entries: Sequence[Entry]) -> Iterator[Entry]:
        payloads = self.payloads(entries)
        for entry in entries:
            payload = payloads.get(entry.id)
            if payload is None:
                found.add("gone")
            elif same_keys(payload, entry.before, entry.keys):
                continue
            elif BLOCKED in payload.values():
                # Nothing can be set inside what is not an object any more, and what it is now is not ours.
                found.add("newer")
            elif same_keys(payload, entry.after, entry.keys) or self._edit.get("overwrite"):
                now = {key: payload[key] for key in entry.keys if key in payload}
                found.show(made := Entry(entry.id, now, entry.before))
                yield made
            else:
                found.add("newer")
