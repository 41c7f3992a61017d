"""The table of constants: limits that are not settings, read from the code that has them."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "mlxd"
SETTINGS = PACKAGE / "config" / "settings.py"

HEAD = """\
# Constants

Limits that are not settings, in the code's own words; `python -m docs.generate` writes this page.
Settings and their defaults are in [configuration.md](configuration.md).

| where | constant | value | |
|---|---|---|---|
"""


def constants_md() -> str:
    """The page."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path != SETTINGS]
    return HEAD + "".join(row for path in files for row in _rows(path))


def _rows(path: Path) -> Iterator[str]:
    where = path.relative_to(PACKAGE.parent).with_suffix("")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, value, meaning in _documented(tree):
        if name.isupper() and not name.startswith("_"):
            yield f"| `{where}` | `{name}` | `{value}` | {meaning} |\n"
    for holder in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for name, value, meaning in _documented(holder):
            # What begins at nothing is a state, not a limit.
            if value == "0":
                continue
            yield f"| `{where}` | `{holder.name}.{name}` | `{value}` | {meaning} |\n"


def _documented(holder: ast.Module | ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Names with a number or several for a value, and a docstring right below."""
    for statement, below in zip(holder.body, holder.body[1:], strict=False):
        match statement, below:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value),
                ast.Expr(value=ast.Constant(value=str(text))),
            ) if _is_number(value):
                yield name, ast.unparse(value), " ".join(text.split())


def _is_number(value: ast.expr) -> bool:
    match value:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case ast.BinOp(left=left, right=right):
            return _is_number(left) and _is_number(right)
        case ast.Tuple(elts=parts):
            return bool(parts) and all(map(_is_number, parts))
    return False
