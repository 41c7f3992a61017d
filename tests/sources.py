"""The repository's Python files as syntax trees, and what they import."""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Source:
    """A Python file of the repository."""

    path: Path

    @property
    def name(self) -> str:
        """Dotted name; for modules of the package the name below `mlxd`."""
        parts = list(self.path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        return ".".join(parts[1:] if parts[:1] == ["mlxd"] else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node, in no particular order."""
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> list[tuple[ast.AST, str]]:
        """Every import: the node and the full dotted name it asks for."""
        return list(imported(self.nodes))

    def at(self, node: ast.AST) -> str:
        """Where `node` stands, in the form that editors open."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return [node for node in self.nodes if isinstance(node, kinds)]

    def comments(self) -> Iterator[tuple[int, str]]:
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def sources(folder: str) -> list[Source]:
    return [Source(path) for path in sorted((ROOT / folder).rglob("*.py"))]


PACKAGE = sources("mlxd")
TESTS = sources("tests")
EVERYTHING = [*PACKAGE, *TESTS, *sources("bench"), *sources("soak"), *sources("docs")]
MODULES = {source.name for source in PACKAGE}
PACKAGES = {source.name for source in PACKAGE if source.path.name == "__init__.py"}


def imported(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    """The imports among `nodes`: the node and the full dotted name it asks for."""
    for node in nodes:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node, alias.name
            case ast.ImportFrom(module=module, names=names, level=0):
                for alias in names:
                    yield node, f"{module}.{alias.name}"
            case ast.ImportFrom():
                yield node, ".relative"
            case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                if dotted(node.func).endswith("import_module"):
                    yield node, name


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of names, empty for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            prefix = dotted(value)
            return f"{prefix}.{attr}" if prefix else ""
    return ""


def own_module(name: str) -> str | None:
    """The module of mlxd that `name` reaches (below `mlxd`), None for other packages."""
    if name.split(".")[0] != "mlxd":
        return None
    below = name.partition(".")[2]
    while below and below not in MODULES:
        below = below.rpartition(".")[0]
    return below
