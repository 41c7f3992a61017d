"""The architecture as tests: who may import whom, how large a piece may be, what may not appear.

Everything is read from the sources (`ast` and `tokenize`); only the last two tests start Python.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.import_table import (
    LATE_IMPORTS,
    LOOSE,
    NEVER_AT_START,
    NEVER_IN_SERVER,
    OWN_ROOM,
    OWNERS,
    SEES,
)
from tests.sources import (
    EVERYTHING,
    MODULES,
    PACKAGE,
    PACKAGES,
    ROOT,
    TESTS,
    dotted,
    imported,
    own_module,
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_NESTING = 4
MAX_POSITIONAL = 4
EVERYBODY_SEES = ("kernel", "version")

BANNED_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle", "joblib"}
BANNED_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen"}
BANNED_TEXT: dict[str, str] = {
    r"(?<![\w.~/}])/(?:root|work|tmp|opt|mnt|srv)/\w": "a path of one machine",
    r"(?<![\w.~/}])/(?:home|Users)/(?!(?:a|ann|me|user|you)\b)\w": "a path of one person",
    r"\b(?:TODO|FIXME|XXX|HACK)\b": "an unfinished thought; do it or say it in plain words",
    r"\b(?i:blazing|seamless(?:ly)?|leverag(?:e|es|ing)|cutting-edge)\b": "marketing",
    r"\b(?i:(?:see|in|for|per|of) issue #?\d+)\b": "a reference that readers can't follow",
    "\N{EM DASH}": "an em-dash; a comma, colon or full stop says it",
}


def allows(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def check(broken: list[str]) -> None:
    """Fail with one readable line for each broken rule."""
    __tracebackhide__ = True
    if broken:
        pytest.fail("\n".join(dict.fromkeys(broken)), pytrace=False)


def room_of(module: str) -> str:
    """The room that `module` is in: its folder, or for loose files what the table says."""
    if module in LOOSE:
        return LOOSE[module]
    folder = module.rpartition(".")[0]
    return module if module in PACKAGES or folder in ("", *OWN_ROOM) else folder


def test_every_room_has_a_row_in_the_import_table() -> None:
    rooms = {room_of(module) for module in MODULES}
    check(
        [
            *(f"mlxd.{room}: give it a row in SEES" for room in sorted(rooms - SEES.keys())),
            *(f"{room}: there is no such room" for room in sorted(SEES.keys() - rooms)),
        ]
    )


def test_every_import_of_our_own_is_allowed_by_the_table() -> None:
    broken = []
    for source in PACKAGE:
        here = room_of(source.name)
        sees = (here, *EVERYBODY_SEES, *SEES.get(here, ())) if here != "kernel" else ("kernel",)
        for node, name in source.imports:
            target = own_module(name)
            if name == ".relative":
                broken.append(f"{source.at(node)}: write the import in full")
            elif target is not None and room_of(target) not in sees:
                broken.append(f"{source.at(node)}: {here} may not import mlxd.{target}")
    check(broken)


def test_the_import_table_names_nothing_that_is_not_imported() -> None:
    used = {
        (room_of(source.name), room_of(target))
        for source in PACKAGE
        for _, name in source.imports
        if (target := own_module(name)) is not None
    }
    check(
        [
            f"SEES: {room} never imports {seen}; take it out"
            for room, row in SEES.items()
            for seen in row
            if (room, seen) not in used
        ]
    )


def ring(graph: dict[str, set[str]]) -> list[str]:
    """Names that lead to each other in a ring, the first one again at the end; or none."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, set()) - {name}):
            if found := visit(target, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := visit(name, []))), [])


def test_neither_modules_nor_rooms_import_each_other_in_a_ring() -> None:
    modules: dict[str, set[str]] = {}
    rooms: dict[str, set[str]] = {}
    for source in PACKAGE:
        targets = {own for _, name in source.imports if (own := own_module(name)) is not None}
        modules[source.name] = targets
        rooms.setdefault(room_of(source.name), set()).update(room_of(each) for each in targets)
    found = [("modules", ring(modules)), ("rooms", ring(rooms))]
    check([f"a ring of {what}: {' -> '.join(names)}" for what, names in found if names])


def test_every_foreign_package_is_imported_by_its_owners_only() -> None:
    broken = []
    for source in PACKAGE:
        for node, name in source.imports:
            package = name.split(".")[0]
            if package in ("mlxd", "") or package in sys.stdlib_module_names - OWNERS.keys():
                continue
            if package not in OWNERS:
                broken.append(f"{source.at(node)}: {package} has no owner; name one in OWNERS")
            elif not allows(OWNERS[package], source.name):
                broken.append(f"{source.at(node)}: {source.name} may not import {package}")
    check(broken)


def test_every_foreign_package_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in project["dependencies"]}
    # Distributions that bring more than one package.
    declared |= {"pydantic_core"} if "pydantic" in declared else set()
    declared |= {"yaml"} if "pyyaml" in declared else set()
    foreign = OWNERS.keys() - sys.stdlib_module_names
    check([f"{package}: add it to pyproject.toml" for package in sorted(foreign - declared)])


def test_batch_generator_is_named_where_rows_are_run_and_tried_only() -> None:
    allowed = ("engine.batching.batch", "engine.batching.row_trial")
    check(
        [
            f"{source.at(node)}: BatchGenerator belongs to {allowed}"
            for source in PACKAGE
            for node, name in source.imports
            if name.endswith(".BatchGenerator") and source.name not in allowed
        ]
    )


def test_functions_import_late_only_where_starting_fast_needs_it() -> None:
    check(
        [
            f"{source.at(node)}: import at the top of the file"
            for source in PACKAGE
            if not allows(LATE_IMPORTS, source.name)
            for function in source.functions
            for node, _ in imported(ast.walk(function))
        ]
    )


def test_nothing_unpickles_evaluates_or_shells_out() -> None:
    broken = []
    for source in EVERYTHING:
        for node, name in source.imports:
            if name.split(".")[0] in BANNED_MODULES:
                broken.append(f"{source.at(node)}: {name} runs code from data")
        for call in (node for node in source.nodes if isinstance(node, ast.Call)):
            if dotted(call.func) in BANNED_CALLS:
                broken.append(f"{source.at(call)}: {dotted(call.func)}() is not used here")
            broken += [
                f"{source.at(call)}: {keyword.arg}=True is not used here"
                for keyword in call.keywords
                if keyword.arg in ("shell", "trust_remote_code", "allow_pickle")
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
            ]
    check(broken)


def test_files_stay_short() -> None:
    check(
        [
            f"{source.path.relative_to(ROOT)}: {lines} lines, at most {MAX_FILE_LINES}"
            for source in EVERYTHING
            if (lines := len(source.text.splitlines())) > MAX_FILE_LINES
        ]
    )


def test_functions_stay_short() -> None:
    check(
        [
            f"{source.at(function)}: {function.name}: {lines} lines, at most {MAX_FUNCTION_LINES}"
            for source in EVERYTHING
            for function in source.functions
            if (lines := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
        ]
    )


NESTING = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
HOLDING_STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")


def nesting(node: ast.AST) -> int:
    """Depth of the blocks inside `node`; `elif` and functions inside do not add to it."""
    deepest = 0
    for child in (child for field in HOLDING_STATEMENTS for child in getattr(node, field, ())):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_elif = (
            isinstance(child, ast.If)
            and isinstance(node, ast.If)
            and node.orelse == [child]
            and child.col_offset == node.col_offset
        )
        deepens = isinstance(child, (*NESTING, ast.TryStar)) and not is_elif
        deepest = max(deepest, nesting(child) + deepens)
    return deepest


def test_functions_nest_little() -> None:
    check(
        [
            f"{source.at(function)}: {function.name} nests {depth} deep, at most {MAX_NESTING}"
            for source in EVERYTHING
            for function in source.functions
            if (depth := nesting(function)) > MAX_NESTING
        ]
    )


def test_functions_take_few_positional_parameters() -> None:
    broken = []
    tests = {source.path for source in TESTS}
    for source in EVERYTHING:
        for function in source.functions:
            names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
            given_by_pytest = source.path in tests and function.name.startswith("test_")
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > MAX_POSITIONAL and not given_by_pytest:
                broken.append(f"{source.at(function)}: {function.name} takes {count}; use `*`")
    check(broken)


def test_every_module_says_what_it_is() -> None:
    check(
        [
            f"{source.at(source.tree)}: begin with a docstring"
            for source in EVERYTHING
            if not ast.get_docstring(source.tree)
        ]
    )


def does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Expr(value=ast.Constant()):
            return True
    return False


def test_there_are_no_globals_and_no_silenced_exceptions() -> None:
    broken = []
    for source in EVERYTHING:
        for node in source.nodes:
            match node:
                case ast.Global():
                    broken.append(f"{source.at(node)}: `global`; keep state in an object")
                case ast.ExceptHandler(type=None):
                    broken.append(f"{source.at(node)}: bare `except`; name the exception")
                case ast.ExceptHandler(type=ast.Name(id="Exception" | "BaseException"), body=body):
                    if all(does_nothing(line) for line in body):
                        broken.append(f"{source.at(node)}: swallows every exception")
                case ast.Call(func=func, args=[ast.Name(id="Exception" | "BaseException")]):
                    if dotted(func).endswith("suppress"):
                        broken.append(f"{source.at(node)}: suppresses every exception")
    check(broken)


def test_no_check_is_switched_off_in_a_comment() -> None:
    broken = []
    switch = re.compile(r"noqa|pragma: no cover|fmt: (?:off|skip)|pylint:|ruff:")
    for source in EVERYTHING:
        if not (switch.search(source.text) or "type: ignore" in source.text):
            continue  # Telling comments from other text is slow.
        for line, comment in source.comments():
            where = f"{source.path.relative_to(ROOT)}:{line}"
            if switch.search(comment):
                broken.append(f"{where}: {comment}: change the code instead")
            if "type: ignore" in comment and not re.search(r"ignore\[[\w, -]+\]  # \w", comment):
                broken.append(f"{where}: name the error and the reason: ignore[code]  # reason")
    check(broken)


MACHINE = re.compile(r"sys\.platform|os\.cpu_count")


def test_tests_go_through_the_front_door() -> None:
    broken = []
    for source in TESTS:
        for node, name in source.imports:
            if name.startswith("unittest.mock"):
                broken.append(f"{source.at(node)}: use a shipped fake instead of a mock")
        for call in (node for node in source.nodes if isinstance(node, ast.Call)):
            named = dotted(call.func)
            # A fake process may sleep; a test waits for a condition.
            sleeps = named == "time.sleep" and source.path.name.startswith("test_")
            if sleeps or named in ("monkeypatch.setattr", "pytest.skip", "pytest.importorskip"):
                broken.append(f"{source.at(call)}: {named} has no place in tests")
            if named == "pytest.mark.skipif" and not MACHINE.search(ast.unparse(call.args[0])):
                broken.append(f"{source.at(call)}: only another machine is a reason to skip a test")
    check(broken)


def readable_files() -> Iterator[Path]:
    yield from (source.path for source in EVERYTHING if source.path != Path(__file__))
    yield from (ROOT / name for name in ("Makefile", "pyproject.toml", ".ci/run"))
    for pattern in ("*.md", "docs/**/*.md", "config/*.toml", "tests/**/*.json", "tests/**/*.sse"):
        yield from sorted(ROOT.glob(pattern))


def test_no_file_says_what_only_its_writer_understands() -> None:
    broken = []
    anything = re.compile("|".join(f"(?:{pattern})" for pattern in BANNED_TEXT))
    for path in readable_files():
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines() if anything.search(text) else (), start=1):
            broken += [
                f"{path.relative_to(ROOT)}:{number}: {why}: {found[0]!r}"
                for pattern, why in BANNED_TEXT.items()
                if (found := re.search(pattern, line))
            ]
    check(broken)


def loaded_by(module: str) -> set[str]:
    """Top-level packages in a new Python that has imported `module`."""
    program = f"import sys, json, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    check(done.stderr.splitlines() if done.returncode else [])
    return {name.split(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("module", "never"), [("mlxd.cli", NEVER_AT_START), ("mlxd.server.lifecycle", NEVER_IN_SERVER)]
)
def test_starting_loads_nothing_heavy(module: str, never: tuple[str, ...]) -> None:
    heavy = loaded_by(module) & set(never)
    check([f"import {module} loads {package}" for package in sorted(heavy)])
