"""`mlxd init`: a first configuration file."""

from pathlib import Path

import click

from mlxd import called
from mlxd.commands.completion import model_names
from mlxd.commands.options import DEMO, SOURCE_HELP, fail, find_named


@click.command()
@click.option(
    "--model",
    metavar="SOURCE",
    shell_complete=model_names,
    help=f"The model to serve. {SOURCE_HELP}",
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("mlxd.toml"),
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(*, model: str | None, path: Path, force: bool) -> int:
    """Write an annotated configuration file."""
    from mlxd.config.settings import Settings
    from mlxd.config.toml_writer import template
    from mlxd.engine.model_files.library import locate

    named = find_named(model or DEMO, Settings())
    if named is None:
        fail(f'"{model}" is no source. {SOURCE_HELP}')
        return 2
    source, alias = named.source, named.alias
    more = _alternatives() if model is None else ""
    text = template({alias: {"source": source}}, more, {"engine": _about_disk()})
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{path} exists; --force overwrites it.")
        return 1
    except OSError as error:
        fail(f"{path} can't be written: {error.strerror}.")
        return 1
    click.echo(f'Wrote {click.format_filename(path)}: it serves {source} as "{alias}".')
    click.echo("Next:")
    if not locate(source):
        click.echo(f"  {called()} pull {source}")
    where = "" if path == Path("mlxd.toml") else f" --config {path}"
    click.echo(f"  {called()} serve{where}")
    return 0


def _about_disk() -> str:
    """What can be kept on the disk of this machine, in words."""
    from mlxd.config.catalogue import gigabytes
    from mlxd.config.engine_specs import prefix_folder
    from mlxd.config.settings import Settings
    from mlxd.engine.prefix_disk.folder import free_bytes

    free = free_bytes(prefix_folder(Settings(), None))
    return (
        "To let long conversations go on at once after a restart, write prefix_disk_bytes = "
        f"20_000_000_000 above ({gigabytes(free)} of this disk are free). What is kept there is "
        "what was said, in the model's own form, for your account alone; `mlxd prefixes` shows how "
        "much it is, and `mlxd prefixes clear` removes it."
    )


def _alternatives() -> str:
    """TOML about models of the hub that fit this machine, all of it disabled."""
    from mlxd.config.catalogue import catalogue, gigabytes
    from mlxd.config.machine import has_gpu, memory_bytes, model_memory_bytes
    from mlxd.config.toml_writer import disabled, prose

    models = catalogue().fitting(model_memory_bytes(), quick=not has_gpu())
    if not models:
        return ""
    intro = (
        f"Models of the hub that fit this machine ({gigabytes(memory_bytes())} of memory), as of "
        f"{catalogue().date}. To "
        "serve one, take the # off its two lines and fetch it with `mlxd pull NAME`. Name it in "
        "[defaults] if it should answer when a request names no model."
    )
    slow = "" if has_gpu() else " Without a GPU they are slow, so these are the smallest."
    entries = [
        f"\n# {gigabytes(model.bytes)}: {model.what}\n"
        + disabled(f'[models."{model.name}"]\nsource = "{model.source}"')
        for model in models
    ]
    return "\n".join([prose(intro + slow), *entries])
