"""Names and rooms: what may be called what, how full a folder may be, who may name a vendor."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.sources import PACKAGE, ROOT, Source

MOST_FILES = 20
MOST_LOOSE = 10
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}
NEUTRAL = ("api.http", "api.admin", "api.dialect", "api.endpoints", "api.app", "engine", "server")
KERNEL = ("errors", "messages", "events", "history", "status")
VENDORS = re.compile(r"openai|anthropic|azure|ollama|claude|codex|(?<![a-z])gpt", re.IGNORECASE)


def modules_of(folder: str) -> list[str]:
    """The files of a folder of the package, but for its face."""
    return [path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"]


def folders() -> list[str]:
    return sorted({str(source.path.parent.relative_to(ROOT)) for source in PACKAGE})


def test_folders_are_not_crowded() -> None:
    crowded = {name: len(modules_of(name)) for name in folders()}
    assert {name: count for name, count in crowded.items() if count > MOST_FILES} == {}
    loose = len(list((ROOT / "mlxd").glob("*.py")))
    assert loose <= MOST_LOOSE


def test_files_say_what_is_in_them_and_do_not_repeat_their_folder() -> None:
    bad = []
    for folder in folders():
        room = folder.rpartition("/")[2]
        for name in modules_of(folder):
            if name in EMPTY_NAMES or name.startswith(f"{room}_"):
                bad.append(f"{folder}/{name}.py")
    assert bad == []


def words_of(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Names and texts of a file's code; docstrings may cite where something comes from."""
    docstrings = {
        id(node.value)
        for node in source.nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in source.nodes:
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield node, text
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield node, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node, name
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node, name


def test_no_neutral_room_names_a_vendor() -> None:
    bad = [
        f"{source.at(node)}: {word[:60]!r}"
        for source in PACKAGE
        if source.name in KERNEL or source.name.startswith(NEUTRAL)
        for node, word in words_of(source)
        if VENDORS.search(word)
    ]
    assert bad == []


def base_names(node: ast.ClassDef) -> set[str]:
    return {base.id for base in node.bases if isinstance(base, ast.Name)}


def test_a_public_class_name_is_used_once_but_for_what_vendors_call_theirs() -> None:
    classes = [
        (source, node)
        for source in PACKAGE
        for node in source.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    # Types of the wire are called as in the vendor's own documents.
    wire = {"Wire"}
    while grown := {node.name for _, node in classes if base_names(node) & wire} - wire:
        wire |= grown
    places: defaultdict[str, list[str]] = defaultdict(list)
    for source, node in classes:
        if node.name not in wire:
            places[node.name].append(source.at(node))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_settings_of_dialects_are_read_where_they_are_built() -> None:
    readers = Counter(
        source.name
        for source in PACKAGE
        for _, name in source.imports
        if name.startswith("mlxd.config")
        and source.name.startswith(("api.openai", "api.anthropic", "api.azure"))
    )
    assert {name.rpartition(".")[2] for name in readers} == {"dialect"}
