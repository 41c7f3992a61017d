"""`mlxd pull`: bring a model to this machine."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd import called
from mlxd.commands.completion import model_names
from mlxd.commands.fetching import bring, need, run
from mlxd.commands.options import SOURCE_HELP, NamedModel, config_option, fail, find_named, load

if TYPE_CHECKING:
    from mlxd.engine.model_files.download_progress import ModelPhase

USAGE = 2
LINE_EVERY = 1.0
"""Seconds between two lines of JSON about the same step."""


@click.command()
@click.argument("source", metavar="MODEL", shell_complete=model_names)
@click.option(
    "--add",
    metavar="[ALIAS]",
    is_flag=False,
    flag_value="",
    help="Write it into the configuration file too, under ALIAS or its own name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each step.")
@config_option
def pull(*, source: str, add: str | None, as_json: bool, config_file: Path | None) -> int:
    """Download a model, or go on with a download that was broken off.

    MODEL is "demo", a repository of the hub (owner/name, owner/name@revision or its page's
    address), a short name that `mlxd models --recommended` lists, or a configured alias.
    """
    settings = load(config_file).settings
    named = find_named(source, settings)
    if named is None:
        fail(f'"{source}" is neither a source nor a configured alias. {SOURCE_HELP}')
        return USAGE
    if add is not None:
        if named.configured:
            fail(f'{named.source} is configured already, as "{named.alias}".')
            return USAGE
        named = named._replace(alias=add or named.alias)
        # What is wrong with the name is said before hours of downloading.
        load(config_file, {"models": {named.alias: {"source": named.source}}})
    again = f"{called()} pull {named.source}" + ("" if add is None else f" --add {named.alias}")
    folder = _in_lines(named.source) if as_json else _in_words(named.source, again)
    if folder is None:
        return 1
    written = None if add is None else _added(config_file, named, as_json=as_json)
    _say_done(named, folder, written, as_json=as_json)
    return 0


def _in_words(source: str, again: str) -> Path | None:
    wanted = need(source)
    wanted.say()
    return bring(wanted, again) if wanted.has_room else None


def _in_lines(source: str) -> Path | None:
    from mlxd.commands.output.json_forms import PullFailed, PullProgress, PullSize, print_line
    from mlxd.errors import ModelUnusable

    shown: dict[str, float] = {}

    def show(phase: "ModelPhase", done: int, total: int) -> None:
        now = time.monotonic()
        if now - shown.get(phase, -LINE_EVERY) >= LINE_EVERY or 0 < total == done:
            shown[phase] = now
            print_line(PullProgress(phase=phase, done=done, total=total))

    def stopped(words: str) -> None:
        print_line(PullFailed(source=source, reason=words))

    try:
        wanted = need(source)
        print_line(
            PullSize(
                source=source,
                total=wanted.fetch.total,
                here=wanted.fetch.here,
                free=wanted.free,
                fits_memory=wanted.fits_memory,
            )
        )
        if wanted.has_room:
            return run(wanted, show, stopped)
        stopped("there is no room for it on the disk")
    except ModelUnusable as error:
        stopped(error.reason)
    return None


def _added(config_file: Path | None, named: NamedModel, *, as_json: bool) -> Path:
    from mlxd.commands.output.json_forms import PullFailed, print_line
    from mlxd.config.model_table import add_model
    from mlxd.config.places import candidates, find
    from mlxd.errors import ConfigError

    # Without a file it is the one that is found from every folder.
    file = config_file or find() or candidates()[-1]
    try:
        return add_model(file, named.alias, named.source)
    except ConfigError as error:
        if as_json:
            print_line(PullFailed(source=named.source, reason=f"{file}: {error.reason}"))
        raise


def _say_done(named: NamedModel, folder: Path, written: Path | None, *, as_json: bool) -> None:
    from mlxd.commands.local_models import find_model
    from mlxd.commands.output.json_forms import PullDone, print_line
    from mlxd.config.catalogue import gigabytes
    from mlxd.config.settings import ModelSettings
    from mlxd.engine.model_files.library import size_on_disk

    size = size_on_disk(folder)
    problem = find_model(named.alias, ModelSettings(source=named.source)).reason
    if as_json:
        alias = None if written is None else named.alias
        config = None if written is None else str(written)
        print_line(
            PullDone(
                source=named.source,
                folder=str(folder),
                bytes=size,
                problem=problem,
                alias=alias,
                config=config,
            )
        )
        return
    click.echo(f"{named.source}: {gigabytes(size)} in {folder}")
    if problem:
        fail(f"it is here, but can't be served: {problem}.")
    if written is not None:
        click.echo(
            f'Added to {written} as "{named.alias}"; a server that runs has to be restarted.'
        )
