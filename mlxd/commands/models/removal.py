"""`mlxd models rm`: take a downloaded model from this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd.commands.completion import model_names
from mlxd.commands.models.details import named_model
from mlxd.commands.options import config_option, fail, load

if TYPE_CHECKING:
    from mlxd.config.load import Loaded

REFUSED = 1


@click.command()
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.option("--force", is_flag=True, help="Also if it is configured, or loaded by a server.")
@config_option
def rm(*, name: str, force: bool, config_file: Path | None) -> int:
    """Remove a downloaded model that no table of the configuration names and no server has loaded.

    owner/name takes every revision of it, owner/name@revision that one.
    """
    from mlxd.config.catalogue import gigabytes
    from mlxd.engine.model_files.library import removable, remove
    from mlxd.errors import ModelUnusable

    loaded = load(config_file)
    source = named_model(name, loaded.settings).source
    try:
        folders = removable(source)
        users = list(_users(loaded, folders))
        if users and not force:
            fail(f"{source} is still used: {'; '.join(users)}. --force removes it all the same.")
            return REFUSED
        freed = remove(source)
    except ModelUnusable as error:
        fail(f"{source} can't be removed: {error.reason}.")
        return REFUSED
    click.echo(f"Removed {source}, {gigabytes(freed)}.")
    return 0


def _users(loaded: "Loaded", folders: frozenset[Path]) -> Iterator[str]:
    """Who uses one of these folders: tables of the configuration, servers of this account."""
    from mlxd.admin_token import running
    from mlxd.commands.own_server import fetched
    from mlxd.engine.model_files.library import locate

    configured = {alias: model.source for alias, model in loaded.settings.models.items()}
    for alias, source in configured.items():
        if locate(source) in folders:
            yield f"[models.{alias}] of {loaded.file or 'the environment'} names it"
    for access in running():
        status = fetched(access.url, "/admin/status", access.token)
        for model in status.get("engine", {}).get("models", ()):
            is_loaded = model.get("state") in ("loaded", "loading")
            if is_loaded and locate(str(model.get("source", ""))) in folders:
                yield f"the server at {access.url} has it loaded as {model.get('id')}"
