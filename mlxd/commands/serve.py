"""`mlxd serve`: the server."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd import called
from mlxd.commands.options import DEMO, SOURCE_HELP, alias_for, as_source, config_option, fail, load

if TYPE_CHECKING:
    from mlxd.config.load import Loaded
    from mlxd.config.settings import Settings

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
@click.argument("name", metavar="[MODEL]", required=False)
@click.option("--model", metavar="ALIAS|SOURCE", help=f"The default model. {SOURCE_HELP}")
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
    name: str | None,
    model: str | None,
    scripted: str | None,
    log_level: str | None,
) -> int:
    """Serve the configured models over HTTP; MODEL is short for --model MODEL."""
    if name and model:
        raise click.UsageError("Name the model once: as MODEL or with --model.")
    if scripted not in (None, AGENT) and not Path(str(scripted)).is_file():
        raise click.BadParameter(f'"{scripted}" is no file.', param_hint="--scripted")
    flags = {"server.host": host, "server.port": port, "log.level": log_level}
    from mlxd.errors import ConfigError

    try:
        return _serve(config_file, flags, model or name, scripted=scripted, service=service)
    except ConfigError as error:
        if not service:
            raise
        click.echo(str(error), err=True)
        return _ended(2, str(error))


def _serve(
    config_file: Path | None,
    flags: Mapping[str, object],
    model: str | None,
    *,
    scripted: str | None,
    service: bool,
) -> int:
    def read(file: Path | None) -> "tuple[Loaded, Mapping[str, object]]":
        loaded = load(file, flags, service=service)
        chosen = choose(loaded.settings, model)
        if chosen:
            loaded = load(file, {**flags, **chosen}, service=service)
        return loaded, chosen

    loaded, chosen = read(config_file)
    if not model and "models" in chosen:
        click.echo(f"No model is configured: serving the demo model as `{DEMO}`.", err=True)
    unusable = _unusable(loaded.settings) if scripted is None else {}
    from mlxd.server.lifecycle import Taken, run

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


def choose(settings: "Settings", name: str | None) -> Mapping[str, object]:
    """What `--model name` adds to the configuration, as flags; raises `ConfigError`.

    Without a name that is the demo model if no model is configured, else nothing.
    """
    from mlxd.config.problems import did_you_mean
    from mlxd.errors import ConfigError

    if name is None:
        return {} if settings.models else _added(settings, DEMO)
    for alias, model in settings.models.items():
        if name == alias or name in model.aliases:
            return {"defaults.model": alias}
    source = as_source(name)
    if source is None:
        reason = f'"{name}" is neither a configured alias nor a source'
        meant = did_you_mean(name, tuple(settings.models)) if settings.models else ""
        raise ConfigError("command line", "--model", reason, f"{meant} {SOURCE_HELP}".strip())
    for alias, model in settings.models.items():
        if model.source == source:
            return {"defaults.model": alias}
    return _added(settings, source)


def _added(settings: "Settings", source: str) -> Mapping[str, object]:
    taken = {*settings.models, *(name for m in settings.models.values() for name in m.aliases)}
    alias, number = alias_for(source), 2
    while alias in taken:
        alias, number = f"{alias_for(source)}-{number}", number + 1
    return {"models": {alias: {"source": source}}, "defaults.model": alias}
