"""`mlxd models search`: models of the hub in mlx-lm's format."""

from typing import TYPE_CHECKING

import click

from mlxd.commands.options import fail
from mlxd.commands.output.tables import aligned

if TYPE_CHECKING:
    from mlxd.commands.output.json_forms import SearchReport, SearchResult

MAX_WORDS = 200
"""Characters of what is searched for."""
NOTHING_FOUND = 1


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
def search(*, words: tuple[str, ...], as_json: bool) -> int:
    """Search the hub for models whose names have all WORDS, what most people use first.

    Where the hub can't be reached, the catalogue is searched.
    """
    from mlxd.commands.output.json_forms import SearchReport, print_json
    from mlxd.config.catalogue import catalogue
    from mlxd.errors import ModelUnusable

    wanted = " ".join(words)[:MAX_WORDS]
    try:
        report = SearchReport(asked="hub", models=_in_hub(wanted))
    except ModelUnusable as error:
        fail(f"{error.reason}; this is the catalogue of {catalogue().date}.")
        report = SearchReport(asked="catalogue", models=_in_catalogue(wanted))
    if as_json:
        print_json(report)
    else:
        _print(report)
    if not report.models:
        fail(f'no model is called "{wanted}".')
    return 0 if report.models else NOTHING_FOUND


def _in_hub(words: str) -> "list[SearchResult]":
    from mlxd.engine.model_files.hub import search as ask

    return [
        _result(each.source, each.bytes, downloads=each.downloads, gated=each.gated)
        for each in ask(words)
    ]


def _in_catalogue(words: str) -> "list[SearchResult]":
    from mlxd.config.catalogue import catalogue

    wanted = words.lower().split()
    return [
        _result(model.source, model.bytes, downloads=None, gated=False)
        for model in catalogue().models
        if all(word in f"{model.name} {model.source} {model.what}".lower() for word in wanted)
    ]


def _result(source: str, size: int, *, downloads: int | None, gated: bool) -> "SearchResult":
    from mlxd.commands.output.json_forms import SearchResult
    from mlxd.config.catalogue import OVERHEAD
    from mlxd.config.machine import model_memory_bytes
    from mlxd.engine.model_files.library import locate

    return SearchResult(
        source=source,
        bytes=size or None,
        downloads=downloads,
        gated=gated,
        fits=size * OVERHEAD <= model_memory_bytes() if size else None,
        here=locate(source) is not None,
    )


def _print(report: "SearchReport") -> None:
    from mlxd.config.catalogue import gigabytes

    rows = [
        (
            each.source,
            gigabytes(each.bytes) if each.bytes else "",
            "" if each.downloads is None else f"{each.downloads:,}",
            ", ".join(
                word
                for word, holds in (
                    ("here", each.here),
                    ("too large", each.fits is False),
                    ("asks for a login", each.gated),
                )
                if holds
            ),
        )
        for each in report.models
    ]
    lines = aligned(("SOURCE", "SIZE", "DOWNLOADS", ""), rows)
    for each, line in zip((None, *report.models), lines, strict=False):
        too_large = each is not None and each.fits is False
        click.echo(click.style(line, dim=True) if too_large else line)
