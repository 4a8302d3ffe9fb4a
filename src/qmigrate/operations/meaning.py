"""What a revision means, so that it can be compared after its file was changed: words and layout are left out.

It runs nothing and reads no file. Of code it keeps digests: of what Python understands, without comments, docstrings
and layout.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any

from qmigrate.model.schema import JsonObject
from qmigrate.operations.base import Operation
from qmigrate.operations.stored import arguments_of

#: Names that a revision file assigns, and that are compared by themselves.
_ASSIGNED = frozenset({"revision", "down_revision", "requires_sql", "irreversible"})
#: Modules of revision files are called so; see ``revision_file``.
_OWN = "qmigrate_revision_"
#: Characters of a value that a difference shows.
_SHOWN = 60


def meaning_of(operations: Sequence[Operation], source: str, **further: Any) -> JsonObject:
    """What operations say, as plain JSON.

    Args:
        operations: of the revision, in order.
        source: text of its file; empty where it has none.
        further: what else the revision contains, by name.
    """
    tree = ast.parse(source)
    says = [
        {"says": one.describe(), "label": one.label(), "arguments": arguments_of(one, _code_of(tree))}
        for one in operations
    ]
    way_back = any(isinstance(node, ast.FunctionDef) and node.name == "downgrade" for node in tree.body)
    found = {"operations": says, "downgrade": _digest(_own_code(tree)) if way_back else None, **further}
    # As SQL gives it back.
    plain: JsonObject = json.loads(json.dumps(found, default=repr))
    return plain


def differences(before: JsonObject, now: JsonObject) -> tuple[str, ...]:
    """What differs between two meanings, one line each; none where they say the same."""
    found = []
    old, new = before.get("operations", []), now.get("operations", [])
    texts = [[json.dumps(one, sort_keys=True) for one in side] for side in (old, new)]
    for tag, first, last, begin, end in SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes():
        if tag != "equal":
            found += _of_operations(old[first:last], new[begin:end])
    for name in sorted((before.keys() | now.keys()) - {"operations"}):
        if before.get(name) != now.get(name):
            words = ("other code now",) if name == "downgrade" else (_shown(before.get(name)), _shown(now.get(name)))
            found.append(f"{name}: {' → '.join(words)}")
    return tuple(found)


def _of_operations(old: Sequence[JsonObject], new: Sequence[JsonObject]) -> list[str]:
    found = []
    for was, is_now in zip(old, new, strict=False):
        if was["label"] != is_now["label"]:
            found.append(f"{was['says']} → {is_now['says']}")
            continue
        before, now = was["arguments"], is_now["arguments"]
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                found.append(f"{was['label']} {name}: {_shown(before.get(name))} → {_shown(now.get(name))}")
    found += [f"removed: {one['says']}" for one in old[len(new) :]]
    found += [f"added: {one['says']}" for one in new[len(old) :]]
    return found


def _shown(value: Any) -> str:
    words = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"


def _code_of(tree: ast.Module) -> Callable[[Any], Any]:
    """Makes plain JSON of what an operation holds and no file could: functions, by what they do."""

    def plain(value: Any) -> Any:
        name = getattr(value, "__qualname__", None)
        if name is None:
            return {"$value": repr(value)}
        module = str(getattr(value, "__module__", ""))
        if not module.startswith(_OWN):
            return {"$code": f"{module}.{name}", "digest": _digest_of(value)}
        # Whatever it calls stands in the file as well; what is written inside upgrade() is part of that.
        inside = "<" in name
        return {"$code": name, "digest": _digest(tree.body if inside else _own_code(tree))}

    return plain


def _digest_of(value: Any) -> str | None:
    try:
        return _digest(ast.parse(textwrap.dedent(inspect.getsource(value))).body)
    except (OSError, TypeError, SyntaxError):
        return None


def _own_code(tree: ast.Module) -> list[ast.stmt]:
    """The file without what is compared by itself, its imports in the order of their text."""
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in tree.body if node not in imports and not _stands_alone(node)]
    return [*sorted(imports, key=ast.unparse), *rest]


def _stands_alone(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "upgrade"
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id in _ASSIGNED for target in targets)


def _digest(body: Sequence[ast.stmt]) -> str:
    """Of code as Python understands it: without comments, layout and docstrings."""
    module = _Silent().visit(ast.parse(ast.unparse(ast.Module(list(body), []))))
    return hashlib.sha256(ast.unparse(module).encode()).hexdigest()


class _Silent(ast.NodeTransformer):
    """Takes docstrings, and other texts that stand for themselves, out."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        return node
