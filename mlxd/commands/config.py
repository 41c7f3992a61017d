"""`mlxd config`: what is in effect, and why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd.commands.completion import config_keys
from mlxd.commands.options import config_option, fail, load

if TYPE_CHECKING:
    from mlxd.commands.output.json_forms import ConfigEntry
    from mlxd.config.load import Loaded

USAGE = 2


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.argument("key", required=False, shell_complete=config_keys)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@config_option
def show(*, key: str | None, as_json: bool, config_file: Path | None) -> int:
    """Print the effective value of every key and where it came from; or of KEY, or of a table."""
    from mlxd.commands.output.json_forms import ConfigReport, print_json, text_or_none
    from mlxd.config.places import candidates

    loaded = load(config_file)
    entries = [each for each in _entries(loaded) if key is None or _is_below(each.key, key)]
    if key is not None and not entries:
        fail(f'there is no key "{key}"; `mlxd config show` lists them.')
        return USAGE
    file = loaded.file.absolute() if loaded.file else None
    if as_json:
        print_json(ConfigReport(file=text_or_none(file), values=entries))
        return 0
    if file:
        click.echo(f"# file: {click.format_filename(file)}")
    else:
        click.echo(f"# no file; looked for {' and '.join(map(str, candidates()))}")
    lines = [(f"{each.key} = {_text(each.value)}", each.origin) for each in entries]
    width = min(max(len(line) for line, _ in lines), 60)
    for line, origin in lines:
        click.echo(f"{line:{width}}  # {origin}")
    return 0


def _entries(loaded: "Loaded") -> "Iterator[ConfigEntry]":
    from mlxd.commands.output.json_forms import ConfigEntry
    from mlxd.commands.sampling_defaults import TABLE, sampling_defaults
    from mlxd.config.problems import dotted, follow
    from mlxd.config.secrets import without_secrets
    from mlxd.config.sources import leaves

    tree = without_secrets(loaded.settings)
    values = {dotted(path): follow(path, tree)[1] for path in leaves(loaded.settings)}
    origins = dict(loaded.origins)
    for alias, model in loaded.settings.models.items():
        for each in sampling_defaults(model, loaded.settings.defaults):
            key = dotted(("models", alias, each.name))
            values[key] = each.value
            origins[key] = origins[key] if each.origin == TABLE else each.origin
    return (ConfigEntry(key, value, origins[key]) for key, value in values.items())


def _is_below(key: str, table: str) -> bool:
    return key == table or key.startswith(f"{table}.")


def _text(value: object) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)
