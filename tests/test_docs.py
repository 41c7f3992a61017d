"""The written documentation says what the code does."""

import ast
import re
import shlex

import click
import pytest

from docs.generate import commands, configuration_md
from mlxd.cli import cli
from mlxd.config.problems import sections
from mlxd.config.settings import ModelSettings, Settings
from tests.sources import PACKAGE, ROOT

REFERENCE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = dict(commands(cli, "mlxd"))


def test_the_reference_is_made_from_the_code() -> None:
    assert configuration_md() == REFERENCE, "run `python docs/generate.py`"


@pytest.mark.parametrize("name", [*Settings.model_fields, *(name for name, _ in sections())])
def test_every_table_is_documented(name: str) -> None:
    assert f"`{name}`" in REFERENCE or f"`[{name}]`" in REFERENCE or f"`[{name}.<" in REFERENCE


@pytest.mark.parametrize(
    "key",
    [
        *(key for _, section in sections() for key in section.model_fields),
        *ModelSettings.model_fields,
    ],
)
def test_every_key_is_documented(key: str) -> None:
    assert f"| `{key}` |" in REFERENCE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    assert f"### `{name}" in REFERENCE
    text = REFERENCE.partition(f"### `{name}")[2].partition("\n### ")[0]
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert f"`{option.opts[0]}" in text
            assert option.help


def written_commands() -> list[tuple[str, str]]:
    """Every `mlxd …` line in a code block of a page, with the page's name."""
    return [
        (page.name, line)
        for page in PAGES
        for block in re.findall(r"(?ms)^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"))
        for line in re.findall(r"(?m)^(?:\$ )?(mlxd (?!\d)[^#|&>\n]*)", block)
    ]


def parse(line: str) -> None:
    """Parse a command line as click would, without running it."""
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    if words[:1] not in (["--help"], ["--version"]):
        command.make_context("mlxd", words)


def test_commands_on_the_pages_are_real() -> None:
    wrong = []
    for page, line in written_commands():
        try:
            parse(line)
        except (click.ClickException, KeyError) as error:
            wrong.append(f"{page}: {line}: {error}")
    assert not wrong


def test_the_check_of_commands_can_fail() -> None:
    parse("mlxd serve --port 80 --model demo")
    for line in ("mlxd srve", "mlxd serve --prot 1", "mlxd serve --port x", "mlxd pull"):
        with pytest.raises((click.ClickException, KeyError)):
            parse(line)


def constant(module: str, name: str) -> str | None:
    """The expression that a module (`NAME`) or a class in it (`Class.name`) gives to a name."""
    source = next((source for source in PACKAGE if source.name == module), None)
    tree: ast.AST | None = source.tree if source else None
    *classes, name = name.split(".")
    for wanted in classes:
        found = ast.iter_child_nodes(tree) if tree else ()
        tree = next((n for n in found if isinstance(n, ast.ClassDef) and n.name == wanted), None)
    for node in ast.iter_child_nodes(tree) if tree else ():
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                return ast.unparse(value)
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                if target == name:
                    return ast.unparse(value)
    return None


def test_the_table_of_constants_is_true() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| `([\w.]+)` \| `(.+?)` \|", page)
    assert len(rows) > 20
    wrong = {
        f"{module}.{name}": (constant(module, name), value)
        for module, name, value in rows
        if constant(module, name) != value
    }
    assert not wrong
