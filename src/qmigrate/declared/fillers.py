"""What a declaration fills a vector with, for a revision and compared with what revisions have filled it with. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from qmigrate.model.transform import Filling
from qmigrate.operations.checks import shown
from qmigrate.operations.values import FILL_ME, Compute, Embed, FillMe, Value

#: How the words of ``qmigrate schema`` go on behind what fills a vector.
_FINGERPRINT = ", fingerprint "


def filler_of(vector: str, declared: Value | str | None) -> tuple[Value, tuple[str, ...]]:
    """What a revision says fills a vector, and the comments that explain what it doesn't."""
    name = shown(vector)
    if declared is None:
        choices = "Embed(…), Compute(…), CopyOf(…) or Empty()"
        return FILL_ME, (f"Nothing declares what fills vector {name}: {choices}",)
    if isinstance(declared, str):
        return FILL_ME, (f"Vector {name} is declared as: {declared}",)
    function = _function_of(declared)
    if function is not None:
        where = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
        words = f"Vector {name} is declared with the function {where}, which a revision has to hold itself"
        return FILL_ME, (f"{words}: what it does must stay what was applied",)
    return declared, ()


def differ(declared: Value | str, known: Filling) -> bool:
    """Whether a declaration fills a vector with something else than revisions have."""
    if isinstance(known, FillMe):
        # It is being decided.
        return False
    if isinstance(declared, str):
        return _model(declared) != _model(known.describe())
    if type(declared) is not type(known):
        return True
    if isinstance(declared, Embed) and isinstance(known, Embed):
        if declared.embedder != known.embedder or (declared.text is None) != (known.text is None):
            return True
        return not _same(declared.spec, known.spec)
    if isinstance(declared, Compute) and isinstance(known, Compute):
        return not _same(declared.function, known.function)
    return bool(declared != known)


def _model(words: str) -> str:
    return words.partition(_FINGERPRINT)[0].partition(", dropping")[0].strip()


def _function_of(value: Value) -> Callable[..., Any] | None:
    if isinstance(value, Compute):
        return value.function
    if isinstance(value, Embed) and callable(value.spec):
        found: Callable[..., Any] = value.spec
        return found
    return None


def _same(one: Any, other: Any) -> bool:
    """Two fields, templates or functions; a function is what it does, in whichever file it stands."""
    if callable(one) and callable(other):
        codes = getattr(one, "__code__", None), getattr(other, "__code__", None)
        if None in codes:
            return bool(one == other)
        return _digest(codes[0]) == _digest(codes[1]) and _given(one) == _given(other)  # type: ignore[arg-type]
    return bool(one == other)


def _digest(code: CodeType) -> tuple[Any, ...]:
    """What a function does, without its name, its file and its lines."""
    inner = tuple(_digest(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts)
    return code.co_code, inner, code.co_names, code.co_varnames, code.co_freevars


def _given(function: Any) -> Mapping[str, str]:
    """Its defaults."""
    kept = (getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None))
    return {str(place): repr(one) for place, one in enumerate(kept)}
