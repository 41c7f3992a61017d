"""`mlxd run`: from a model's name to a conversation, with all that has to happen in between."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mlxd import called
from mlxd.commands.completion import model_names
from mlxd.commands.conversation import (
    NOT_A_TERMINAL,
    NOTHING_ASKED,
    USAGE,
    Target,
    Wanted,
    converse,
    find_target,
    is_terminal,
    question_of,
)
from mlxd.commands.options import DEMO, config_option, fail, load

if TYPE_CHECKING:
    from mlxd.admin_token import Access
    from mlxd.config.settings import Settings

ASKED_ABOVE = 2_000_000_000
"""Bytes from which a download is asked about first."""


class Start(NamedTuple):
    """How a server for one model is started: the options of `mlxd serve`, and the model's alias."""

    options: list[str]
    alias: str


@click.command()
@click.argument("name", metavar="[MODEL]", required=False, shell_complete=model_names)
@click.argument("prompt", required=False)
@click.option("-y", "--yes", is_flag=True, help="Download without asking, however large.")
@click.option("--keep", is_flag=True, help="Let a server that was started for this go on.")
@config_option
def run(
    *, name: str | None, prompt: str | None, yes: bool, keep: bool, config_file: Path | None
) -> int:
    """Talk to a model, whatever that takes: download it, start a server, stop it again.

    MODEL is a configured alias, a source, or a short name such as qwen3-4b. With a PROMPT or a
    pipe: print the answer and nothing else.
    """
    if name and prompt is None and any(each.isspace() for each in name):
        # A single argument with blanks in it can be no model's name.
        name, prompt = None, name
    interactive = prompt is None and is_terminal(sys.stdin)
    question = "" if interactive else question_of(prompt)
    if interactive and not is_terminal(sys.stdout):
        fail(NOT_A_TERMINAL)
        return USAGE
    if not (interactive or question.strip()):
        fail(NOTHING_ASKED)
        return USAGE
    from mlxd.admin_token import find

    target = find_target(None, None, config_file)
    if access := find(target.url) or find():
        return _with_running(access, target.key, name or "", question)
    return with_own(name, question, target.key, config_file=config_file, yes=yes, keep=keep)


def _with_running(access: "Access", key: str, name: str, question: str) -> int:
    """Talk to the server that runs, if it has the model."""
    from mlxd.commands.own_server import fetched

    listed = fetched(access.url, "/v1/models", key).get("data", ())
    names = [str(model.get("id")) for model in listed]
    if name and name not in names:
        fail(f"the server at {access.url} has no {name}. It has: {', '.join(names) or 'none'}.")
        return USAGE
    return converse(Target(access.url, key), question, Wanted(name))


def with_own(
    name: str | None,
    question: str,
    key: str,
    *,
    config_file: Path | None,
    yes: bool = False,
    keep: bool = False,
) -> int:
    """Talk to a server that is started for this."""
    start = prepared(name, config_file, yes=yes)
    if isinstance(start, int):
        return start
    from mlxd.commands.own_server import own_server

    with own_server(start.options, start.alias, keep=keep) as access:
        return converse(Target(access.url, key), question, Wanted(start.alias))


def prepared(name: str | None, config_file: Path | None, *, yes: bool) -> Start | int:
    """What a server for a model is started with, once its files are here; else an exit code."""
    settings = load(config_file).settings
    wanted = _wanted(settings, name)
    if wanted is None:
        return USAGE
    from mlxd.commands.serve import choose

    chosen = {**settings.model_dump(include={"models"}), **choose(settings, [wanted])}
    alias = str(chosen["defaults.model"])
    source = str(dict(chosen["models"])[alias]["source"])
    if not _is_here(source, again=f"{called()} run {wanted}", yes=yes):
        return 1
    options = ["--model", wanted, *(["--config", str(config_file)] if config_file else [])]
    from mlxd.commands.doctor_checks import port_finding

    if port_finding(settings.server.host, settings.server.port).level == "fail":
        # Another program's: any port will do.
        options += ["--port", "0"]
    return Start(options, alias)


def _wanted(settings: "Settings", name: str | None) -> str | None:
    """What to serve; asks a person who has named nothing and configured nothing."""
    from mlxd.config.engine_specs import default_model

    return name if name is not None else default_model(settings) or _picked()


def _picked() -> str | None:
    from mlxd.config.catalogue import catalogue, gigabytes
    from mlxd.config.machine import has_gpu, model_memory_bytes

    models = catalogue().fitting(model_memory_bytes(), quick=not has_gpu())
    for number, model in enumerate(models, start=1):
        size = gigabytes(model.bytes)
        click.echo(f"  {number}  {model.name:<24} {size:>8}  {model.what}", err=True)
    last = len(models) + 1
    click.echo(f"  {last}  {DEMO:<24} {'0.1 GB':>8}  small, to try what there is", err=True)
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        fail("name a model: mlxd run MODEL")
        return None
    number = click.prompt("Which one", type=click.IntRange(1, last), default=last, err=True)
    return DEMO if number == last else models[number - 1].name


def _is_here(source: str, *, again: str, yes: bool) -> bool:
    """Whether a model is here, after fetching it if the machine and the person allow that."""
    from mlxd.commands.fetching import bring, need
    from mlxd.commands.local_models import can_be_pulled
    from mlxd.engine.model_files.library import locate

    if locate(source) is not None or not can_be_pulled(source):
        return True
    wanted = need(source)
    wanted.say()
    if not wanted.has_room:
        return False
    if wanted.to_come > ASKED_ABOVE and not yes:
        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            fail("a download of this size needs --yes where nobody can be asked.")
            return False
        click.confirm("Download it?", default=True, abort=True, err=True)
    bring(wanted, again)
    return True
