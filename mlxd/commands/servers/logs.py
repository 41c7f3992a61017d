"""`mlxd logs`: the log of the service, or of the server that `mlxd run` has started."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from mlxd.commands.options import fail

NO_LOG = 1

follow_option = click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
count_option = click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="Lines to show at most.",
)
request_option = click.option(
    "--request",
    metavar="ID",
    help="Only lines about this request: the `x-request-id` of its response.",
)


@click.command()
@follow_option
@count_option
@request_option
def logs(*, follow: bool, count: int, request: str | None) -> int:
    """Show the log of the service, or of the server of `mlxd run` if that is newer.

    A server in a terminal logs there.
    """
    from mlxd.admin_token import folder
    from mlxd.service.log_files import server_log

    there = [path for path in (server_log(), folder() / "run.log") if path.is_file()]
    newest = max(there, key=lambda path: path.stat().st_mtime, default=server_log())
    return show(newest, follow=follow, count=count, request=request)


def show(path: Path, *, follow: bool, count: int, request: str | None) -> int:
    """Print the last lines of a log, and with `follow` those to come."""
    from mlxd.server.logs import printable
    from mlxd.service.log_files import coming_lines, last_lines

    if not path.is_file() and not follow:
        fail(f"there is no log at {path}; a server in a terminal logs there.")
        return NO_LOG
    # Not a part of another id.
    pattern = re.compile(rf"(?<![\w-]){re.escape(request or '')}(?![\w-])")

    def wanted(line: str) -> bool:
        return request is None or pattern.search(line) is not None

    def lines() -> Iterator[str]:
        last, opened = last_lines(path, count, wanted)
        yield from last
        if follow:
            yield from coming_lines(path, opened, wanted)
        elif opened is not None:
            opened.close()

    for line in lines():
        # What a library prints goes into the same file.
        click.echo(printable(line))
    return 0
