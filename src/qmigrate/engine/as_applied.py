"""Operations of revisions that were applied, used again: they must still say what they said then. It only reads.

Points are brought to another schema by the code of the revisions in between. A file that was changed since, and
accepted with another meaning, or rewritten after its revision was undone, would lead them somewhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qmigrate.engine.work import Code, Said
from qmigrate.errors import RefusedError
from qmigrate.model.plan import OpRef


def changed(code: Code, refs: Iterable[OpRef], checksums: Mapping[str, str]) -> tuple[tuple[OpRef, Said], ...]:
    """Those of some operations that differ from what was applied.

    Args:
        checksums: revision -> checksum of its file at that time; what is not in there is not compared.
    """
    known = ((ref, code.said(ref, checksums[ref.revision])) for ref in refs if ref.revision in checksums)
    return tuple((ref, said) for ref, said in known if said is not None)


def refuse_changed(code: Code, refs: Iterable[OpRef], checksums: Mapping[str, str], why: str, hint: str) -> None:
    """Stop where one of them does.

    Args:
        why: what can't be done then.
        hint: what else there is; restoring the file comes first.

    Raises:
        RefusedError: naming the first one.
    """
    for ref, said in changed(code, refs, checksums):
        raise RefusedError(
            f"the file of revision {ref.revision} differs from what was applied ({said.describe()}): {why}",
            hint=f"restore the file as it was applied; {hint}",
            facts={"revision": ref.revision},
        )
