"""`mlxd top`: what the server is doing, on the whole terminal or as one snapshot."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd.commands.options import config_option, fail

if TYPE_CHECKING:
    from mlxd.tui.client import ServerClient

NOT_SEEN = 1
"""Exit code: the server can't be reached, refuses, or is not understood."""
USAGE = 2
NOT_A_TERMINAL = "stdin or stdout is no terminal: use --once for one snapshot, --json for scripts."


@click.command()
@click.option(
    "--url",
    metavar="URL",
    envvar="MLXD_URL",
    help="Address of the server; without it, the configured one, or the one started last.",
)
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="MLXD_ADMIN_TOKEN",
    help="Its admin token; without it, the one that a server of this account has left.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.25, 10),
    metavar="SECONDS",
    default=0.25,
    show_default=True,
    help="Time between updates; a longer one spares a slow line.",
)
@click.option("--once", is_flag=True, help="Print one snapshot and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON and end.")
@config_option
def top(
    *,
    url: str | None,
    token: str | None,
    interval: float,
    once: bool,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Show what the server is doing. Ends with 0, or 1 when the server can't be seen."""
    if not (once or as_json or (sys.stdin.isatty() and sys.stdout.isatty())):
        fail(NOT_A_TERMINAL)
        return USAGE
    connect = _connector(url, token, config_file)
    if once or as_json:
        return _snapshot(connect, as_json)
    import os

    from mlxd.tui.terminal import terminal_of
    from mlxd.tui.top.app import TopApp

    return TopApp(connect, terminal_of(os.environ), interval=interval).run_to_end()


def _connector(
    url: str | None, token: str | None, config_file: Path | None
) -> "Callable[[], ServerClient]":
    """Makes a client for the server; raises `ConfigError`.

    Where the server is and its token are looked up for every client: a server that is started anew
    has another token, and may have another port.
    """
    from mlxd.admin_token import find
    from mlxd.commands.conversation import find_target
    from mlxd.tui.client import ServerClient

    address = find_target(url, "", config_file).url
    file = _token_file(url, config_file)

    def connect() -> ServerClient:
        access = find(address, file)
        if access is None and url is None and config_file is None:
            access = find(None, file)
        if access is None:
            return ServerClient(address, token or "")
        return ServerClient(address if url else access.url, token or access.token)

    return connect


def _token_file(url: str | None, config_file: Path | None) -> Path | None:
    """Where the configuration tells the server to leave its token, if it does."""
    from mlxd.admin_token import chosen
    from mlxd.commands.options import load
    from mlxd.errors import ConfigError

    try:
        loaded = load(config_file)
    except ConfigError:
        if url is None or config_file is not None:
            raise
        # A configuration of this machine says nothing about a server elsewhere.
        return None
    return chosen(loaded.settings.admin.token_file, loaded.file)


def _snapshot(connect: "Callable[[], ServerClient]", as_json: bool) -> int:
    import asyncio

    from mlxd.tui.problems import ServerProblem
    from mlxd.tui.terminal import UNICODE
    from mlxd.tui.top.connection_state import remedy
    from mlxd.tui.top.text_snapshot import as_text, fetch, pretty

    try:
        status = asyncio.run(fetch(connect))
    except ServerProblem as problem:
        # The words are the server's, and may hold what a terminal takes for commands.
        fail(UNICODE.clean(f"{problem} {remedy(problem)}").strip())
        return NOT_SEEN
    click.echo(pretty(status) if as_json else as_text(status))
    return 0
