"""`mlxd config`: what is in effect, and why."""

import json
from pathlib import Path

import click

from mlxd.commands.options import config_option, load


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@config_option
def show(*, config_file: Path | None) -> int:
    """Print the effective value of every key and where it came from."""
    from mlxd.commands.sampling_defaults import TABLE, sampling_defaults
    from mlxd.config.load import candidates
    from mlxd.config.problems import dotted, follow
    from mlxd.config.secrets import without_secrets
    from mlxd.config.sources import leaves

    loaded = load(config_file)
    tree = without_secrets(loaded.settings)
    values = {dotted(path): follow(path, tree)[1] for path in leaves(loaded.settings)}
    if loaded.file:
        click.echo(f"# file: {click.format_filename(loaded.file.absolute())}")
    else:
        click.echo(f"# no file; looked for {' and '.join(map(str, candidates()))}")
    shown = {
        key: "(not set)" if value is None else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }
    origins = dict(loaded.origins)
    for alias, model in loaded.settings.models.items():
        for each in sampling_defaults(model, loaded.settings.defaults):
            key = dotted(("models", alias, each.name))
            shown[key] = json.dumps(each.value)
            origins[key] = origins[key] if each.origin == TABLE else each.origin
    lines = [(f"{key} = {text}", origins[key]) for key, text in shown.items()]
    width = min(max(len(line) for line, _ in lines), 60)
    for line, origin in lines:
        click.echo(f"{line:{width}}  # {origin}")
    return 0
