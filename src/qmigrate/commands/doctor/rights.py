"""Which verbs the key lets a person use: the rights that were seen, laid over what each verb needs. It tries nothing.

``docs/rights.md`` shows the same table; a test compares the two, and one runs every verb with every kind of key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.doctor.words import some
from qmigrate.commands.results import Check
from qmigrate.model.health import KeyRights
from qmigrate.store.rights import MOST_COLLECTIONS

#: What a verb needs of the key, the least first.
#: ``none`` doesn't open Qdrant, or can do without it · ``any`` a key that is let in · ``read`` reading everything ·
#: ``rw`` writing and snapshots of the collection, besides reading everything · ``manage`` making collections and
#: moving aliases.
NEEDS: Mapping[str, str] = {
    "init": "none",
    "revision": "none",
    "check --offline": "none",
    "schema": "none",
    "history": "none",
    "repair --accept": "none",
    "repair --unlock": "none",
    "export show": "none",
    "wait": "any",
    "doctor": "any",
    "status": "read",
    "plan": "read",
    "check": "read",
    "verify": "read",
    "metrics": "read",
    "fix stats": "read",
    "fix quarantine": "none",
    "snapshot list": "read",
    "revision --from-drift": "read",
    "snapshot create --archive": "read",
    "snapshot create": "rw",
    "snapshot delete": "rw",
    "stamp": "manage",
    "adopt": "manage",
    "upgrade": "manage",
    "cutover": "manage",
    "rollback": "manage",
    "abort": "manage",
    "gc": "manage",
    "snapshot restore": "manage",
    "fix sync": "manage",
    "fix delete": "manage",
    "fix orphans": "manage",
    "fix reset": "manage",
    "fix retrain": "manage",
    "fix undo": "manage",
    "fix quarantine --retry": "manage",
    "repair --leftovers": "manage",
    "repair --name": "manage",
    "repair --vanished": "manage",
    "repair --schema": "manage",
}
#: By level of the key: need -> ``yes``, ``no``, or ``partly``: for the collections that the key names.
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "manage": {"none": "yes", "any": "yes", "read": "yes", "rw": "yes", "manage": "yes"},
    "read": {"none": "yes", "any": "yes", "read": "yes", "rw": "no", "manage": "no"},
    "limited": {"none": "yes", "any": "yes", "read": "partly", "rw": "partly", "manage": "no"},
    "none": {"none": "yes", "any": "no", "read": "no", "rw": "no", "manage": "no"},
}
_KEY = "a key that may manage collections (docs/rights.md)"


def verbs_of(rights: KeyRights) -> dict[str, str]:
    """Verb -> ``yes``, ``partly`` or ``no``."""
    answers = dict(ANSWERS[rights.level])
    if rights.level == "limited" and "rw" not in rights.collections.values():
        answers["rw"] = "no"
    if rights.level == "limited" and not any(access in ("r", "rw") for access in rights.collections.values()):
        # prw: points only. Not even the state of a collection's shards can be read.
        answers["read"] = "no"
    return {verb: answers[need] for verb, need in NEEDS.items()}


def of_key(patient: Patient) -> Iterator[Check]:
    """Verbs that this key is enough for."""
    rights = patient.rights()
    verbs = verbs_of(rights)
    facts = {"level": rights.level, "verbs": verbs, "collections": dict(rights.collections)}
    what = "the key" if rights.sent else "no key"
    if rights.level == "manage":
        shown = f"{what} may do everything"
        if not rights.sent:
            shown = "the server requires no key: any client may do everything"
        hint = None if rights.sent else "give it one: service.api_key in Qdrant's config"
        yield Check("rights", True if rights.sent else None, shown, hint, facts=facts)
        return
    if rights.level == "read":
        able, unable = _split(verbs)
        detail = f"{what} may only read: enough for {able}; not for {unable}"
        yield Check("rights", None, detail, f"for upgrade and the like: {_KEY}", facts=facts)
        return
    if rights.level == "limited":
        hint = f"use a key that reads everything, or {_KEY}"
        yield Check("rights", None, _limited(rights), hint, warns=True, facts=facts)
        return
    yield Check("rights", None, f"{what} is rejected, so no verb that opens Qdrant can be used", facts=facts)


def _split(verbs: Mapping[str, str]) -> tuple[str, str]:
    able = [verb for verb, answer in verbs.items() if answer == "yes" and NEEDS[verb] not in ("none", "any")]
    unable = [verb for verb, answer in verbs.items() if answer == "no"]
    return some(able, len(able)), some(unable, len(unable))


def _limited(rights: KeyRights) -> str:
    listed = [f"{name} ({access})" for name, access in sorted(rights.collections.items())]
    more = f" (the first {MOST_COLLECTIONS} were tried)" if len(listed) == MOST_COLLECTIONS else ""
    seen = f"it sees {some(listed)}{more}" if listed else "it sees no collection"
    return (
        f"the key is limited to some collections: {seen}; what it doesn't see looks as if it were gone, and no upgrade "
        "can be made with it"
    )
