"""`mlxd serve`: the server."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd import called
from mlxd.commands.completion import model_names
from mlxd.commands.options import (
    DEMO,
    SOURCE_HELP,
    NamedModel,
    config_option,
    fail,
    find_named,
    load,
)

if TYPE_CHECKING:
    from mlxd.config.load import Loaded
    from mlxd.config.settings import Settings
    from mlxd.errors import ConfigError

TAKEN = 3
"""Exit code: the address or the store's file is another program's."""
LEVELS = ("debug", "info", "warning", "error")
AGENT = "agent"


@click.command()
@config_option
@click.option("--host", metavar="HOST", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Port to listen on; 0 takes a free one.",
)
@click.argument("names", metavar="[MODEL]...", nargs=-1, shell_complete=model_names)
@click.option(
    "--model",
    metavar="ALIAS|SOURCE",
    shell_complete=model_names,
    help=f"The default model. {SOURCE_HELP}",
)
@click.option(
    "--scripted",
    metavar="FILE|agent",
    help='Answer from a script of events instead of a model; "agent" is built in.',
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    metavar="LEVEL",
    help=f"Least important messages to print: {', '.join(LEVELS)}.",
)
@click.option(
    "--service",
    is_flag=True,
    help="As systemd or launchd runs it: log to a file, read the configuration folder's file.",
)
def serve(
    *,
    service: bool,
    config_file: Path | None,
    host: str | None,
    port: int | None,
    names: tuple[str, ...],
    model: str | None,
    scripted: str | None,
    log_level: str | None,
) -> int:
    """Serve the configured models over HTTP, and each MODEL that is named; the first of those
    answers when a request names none."""
    if names and model:
        raise click.UsageError("Name the models in one way: as MODEL... or with --model.")
    if scripted not in (None, AGENT) and not Path(str(scripted)).is_file():
        raise click.BadParameter(f'"{scripted}" is no file.', param_hint="--scripted")
    flags = {"server.host": host, "server.port": port, "log.level": log_level}
    wanted = (model,) if model else names
    from mlxd.errors import ConfigError

    try:
        return _serve(config_file, flags, wanted, scripted=scripted, service=service)
    except ConfigError as error:
        if not service:
            raise
        click.echo(str(error), err=True)
        return _ended(2, str(error))


def _serve(
    config_file: Path | None,
    flags: Mapping[str, object],
    names: Sequence[str],
    *,
    scripted: str | None,
    service: bool,
) -> int:
    def read(file: Path | None) -> "tuple[Loaded, Mapping[str, object]]":
        loaded = load(file, flags, service=service)
        chosen = choose(loaded.settings, names)
        if chosen:
            loaded = load(file, {**flags, **chosen}, service=service)
        return loaded, chosen

    loaded, chosen = read(config_file)
    if not names and chosen:
        click.echo(f"No model is configured: serving the demo model as `{DEMO}`.", err=True)
    unusable = _unusable(loaded.settings) if scripted is None else {}
    from mlxd.server.addresses import Taken
    from mlxd.server.lifecycle import run

    try:
        run(
            loaded.settings,
            config_file=loaded.file,
            scripted=scripted,
            unusable=unusable,
            # The same file: without it, as while it is written anew, keys would be gone.
            reread=lambda: read(loaded.file)[0].settings,
            service=service,
        )
    except Taken as error:
        click.echo(str(error), err=True)
        return _ended(TAKEN, str(error)) if service else TAKEN
    return 0


def _ended(code: int, reason: str) -> int:
    """The exit code of a service that no other start would help."""
    from mlxd.service import last_exit

    last_exit.write(code, reason.removeprefix("mlxd: "))
    return last_exit.exit_code(code, sys.platform)


def _unusable(settings: "Settings") -> Mapping[str, str]:
    """Why models can't be served, by alias; said at once, before the engine finds it out."""
    from mlxd.commands.local_models import can_be_pulled, find_model

    reasons = {}
    for alias, model in settings.models.items():
        found = find_model(alias, model)
        if found.reason:
            reasons[alias] = found.reason
            fetched = found.bytes is None and can_be_pulled(model.source)
            remedy = f" Fetch it: {called()} pull {model.source}" if fetched else ""
            fail(f"the model {alias} can't be served: {found.reason}.{remedy}")
    return reasons


def choose(settings: "Settings", names: Sequence[str]) -> Mapping[str, object]:
    """What naming models adds to the configuration, as flags; raises `ConfigError`.

    Without a name that is the demo model if no model is configured, else nothing.
    """
    from mlxd.config.settings import ModelSettings

    if not names:
        return {} if settings.models else _flags([NamedModel(DEMO, DEMO, configured=False)])
    named = []
    for name in names:
        found = find_named(name, settings)
        if found is None:
            raise _unknown(settings, name)
        if not found.configured:
            # What the next names are called depends on it.
            models = {**settings.models, found.alias: ModelSettings(source=found.source)}
            settings = settings.model_copy(update={"models": models})
        named.append(found)
    return _flags(named)


def _flags(named: Sequence[NamedModel]) -> Mapping[str, object]:
    added = {each.alias: {"source": each.source} for each in named if not each.configured}
    first = {"defaults.model": named[0].alias}
    return {"models": added, **first} if added else first


def _unknown(settings: "Settings", name: str) -> "ConfigError":
    from mlxd.config.problems import did_you_mean
    from mlxd.errors import ConfigError

    reason = f'"{name}" is neither a configured alias nor a source'
    meant = did_you_mean(name, tuple(settings.models)) if settings.models else ""
    return ConfigError("command line", "--model", reason, f"{meant} {SOURCE_HELP}".strip())
