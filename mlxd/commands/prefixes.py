"""`mlxd prefixes`: what is kept on the disk of earlier prompts."""

from pathlib import Path

import click

from mlxd.commands.options import config_option, fail, load

CLEAR = "clear"


@click.command()
@click.argument("action", required=False, type=click.Choice([CLEAR]), metavar="[clear]")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def prefixes(*, action: str | None, config_file: Path | None, as_json: bool) -> int:
    """Show what is kept on the disk of earlier prompts, or `clear` it."""
    from mlxd.commands.output.json_forms import PrefixReport, print_as
    from mlxd.config.engine_specs import prefix_folder
    from mlxd.engine.prefix_disk import folder
    from mlxd.tui.format import plural, size

    loaded = load(config_file)
    root, limit = (
        prefix_folder(loaded.settings, loaded.file),
        loaded.settings.engine.prefix_disk_bytes,
    )
    models = folder.summary(root)
    entries, total = sum(each.entries for each in models), sum(each.bytes for each in models)
    if action == CLEAR:
        try:
            folder.clear(root)
        except OSError as error:
            fail(f"{root} can't be cleared: {error.strerror}.")
            return 1
    if as_json:
        kept = [each._asdict() for each in models if action != CLEAR]
        facts = {"path": str(root), "limit": limit, "bytes": total, "entries": entries}
        print_as(PrefixReport, {**facts, "removed": action == CLEAR, "models": kept})
    elif action == CLEAR:
        click.echo(f"Removed {plural(entries, 'file')}, {size(total)}, from {root}.")
        click.echo("A server that runs goes on, and may write again what it has in memory.")
    else:
        click.echo(f"{root}: {size(total)} of {size(limit)} in {plural(entries, 'file')}")
        for each in models:
            name = each.model or "unknown model"
            click.echo(f"  {size(each.bytes):>8}  {plural(each.entries, 'file')}  {name}")
        if not limit:
            click.echo("None are written: engine.prefix_disk_bytes is 0.")
    return 0
