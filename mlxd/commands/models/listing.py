"""`mlxd models`: what is configured and what is here; what the catalogue recommends."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd.commands.models.details import show, verify
from mlxd.commands.models.hub_search import search
from mlxd.commands.models.removal import rm
from mlxd.commands.options import DEMO, config_option, load
from mlxd.commands.output.tables import aligned

if TYPE_CHECKING:
    from mlxd.commands.output.json_forms import ModelEntry
    from mlxd.config.settings import Settings

TOO_LARGE = "too large"


@click.group(invoke_without_command=True)
@click.option("--recommended", is_flag=True, help="List the catalogue, for this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@config_option
@click.pass_context
def models(
    context: click.Context, *, recommended: bool, as_json: bool, config_file: Path | None
) -> int:
    """List the models that are configured or downloaded."""
    if context.invoked_subcommand is not None:
        return 0
    from mlxd.commands.output.json_forms import print_json
    from mlxd.config.catalogue import gigabytes

    settings = load(config_file).settings
    if recommended:
        _recommend(settings, as_json=as_json)
        return 0
    entries = list(_entries(settings))
    if as_json:
        print_json(entries)
        return 0
    rows = [
        (each.alias, each.state, "" if each.bytes is None else gigabytes(each.bytes), each.source)
        for each in entries
    ]
    for line in aligned(("ALIAS", "STATE", "SIZE", "SOURCE"), rows):
        click.echo(line)
    return 0


for command in (show, search, rm, verify):
    models.add_command(command)


def _entries(settings: "Settings") -> "Iterator[ModelEntry]":
    """The configured models (without any, the demo that is served then), then the others."""
    from mlxd.commands.local_models import find_model
    from mlxd.commands.output.json_forms import ModelEntry, text_or_none
    from mlxd.config.engine_specs import default_model
    from mlxd.config.settings import ModelSettings
    from mlxd.engine.model_files.library import downloaded, locate
    from mlxd.engine.model_files.windows import window_of

    configured = settings.models or {DEMO: ModelSettings(source=DEMO)}
    default = default_model(settings) or DEMO
    for alias, model in configured.items():
        found, folder = find_model(alias, model), locate(model.source)
        window = window_of(folder) if folder else 0
        yield ModelEntry(
            alias=alias,
            state=found.reason or "ready",
            source=model.source,
            bytes=found.bytes,
            window=min(window, model.context_length or window) or None,
            folder=text_or_none(folder),
            default=alias == default,
        )
    sources = {model.source for model in configured.values()}
    for here in downloaded():
        if here.source not in sources:
            yield ModelEntry(
                alias="",
                state="not configured" if here.folder else "incomplete",
                source=here.source,
                bytes=here.bytes,
                window=(window_of(here.folder) if here.folder else 0) or None,
                folder=text_or_none(here.folder),
            )


def _recommend(settings: "Settings", *, as_json: bool) -> None:
    from mlxd.commands.output.json_forms import Recommendations, RecommendedModel, print_json
    from mlxd.config.catalogue import catalogue, gigabytes
    from mlxd.config.machine import has_gpu, memory_bytes, model_memory_bytes
    from mlxd.engine.model_files.library import locate

    memory = settings.engine.memory_bytes or model_memory_bytes()
    listed = catalogue()
    found = [
        RecommendedModel(
            name=model.name,
            source=model.source,
            bytes=model.bytes,
            window=model.window,
            window_here=model.window_in(memory),
            what=model.what,
            here=locate(model.source) is not None,
        )
        for model in listed.models
    ]
    if as_json:
        print_json(Recommendations(date=str(listed.date), memory=memory, models=found))
        return
    rows = [
        (
            each.name,
            gigabytes(each.bytes),
            f"{each.window_here // 1024}k" if each.window_here else TOO_LARGE,
            each.what + (" (here)" if each.here else ""),
        )
        for each in found
    ]
    head, *lines = aligned(("NAME", "SIZE", "WINDOW", "FOR"), rows)
    click.echo(head)
    for each, line in zip(found, lines, strict=True):
        click.echo(line if each.window_here else click.style(line, dim=True))
    slow = "" if has_gpu() else " Without a GPU the large ones are slow."
    click.echo(
        f"\nAs of {listed.date}; windows are what fits {gigabytes(memory)} of this machine's "
        f"{gigabytes(memory_bytes())} of memory, for one conversation.{slow}\n"
        "`mlxd run NAME` talks to one, `mlxd pull NAME --add` takes it into the configuration."
    )
