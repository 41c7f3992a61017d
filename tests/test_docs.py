"""The written documentation says what the code does."""

import re
import shlex

import click
import pytest

from docs.agents import agents_md
from docs.constants import constants_md
from docs.generate import commands, configuration_md, json_md
from mlxd.cli import cli
from mlxd.config.problems import sections
from mlxd.config.settings import ModelSettings, Settings
from tests.sources import ROOT

REFERENCE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = dict(commands(cli, "mlxd"))


def test_the_reference_is_made_from_the_code() -> None:
    assert configuration_md() == REFERENCE, "run `python -m docs.generate`"


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


def test_the_page_about_agents_is_made_from_their_table() -> None:
    page = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    assert agents_md() == page, "run `python -m docs.generate`"


def test_the_table_of_constants_is_made_from_the_code() -> None:
    page = (ROOT / "docs" / "constants.md").read_text(encoding="utf-8")
    assert constants_md() == page, "run `python -m docs.generate`"


def test_the_schemas_of_json_are_made_from_the_code() -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    assert json_md() == page, "run `python -m docs.generate`"


def test_every_command_that_prints_json_has_its_schema() -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        if any("--json" in option.opts for option in command.params):
            assert f"`{name} --json`" in page
