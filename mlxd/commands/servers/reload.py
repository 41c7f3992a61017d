"""`mlxd reload`: have a running server read its configuration again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlxd.commands.options import config_option, fail, load

if TYPE_CHECKING:
    from mlxd.tui.client import ServerClient

FAILED = 1
WRONG = 2
NO_SERVER = 3


@click.command(name="reload")
@click.option("--check", is_flag=True, help="Only say what is wrong, or what would change.")
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
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON.")
@config_option
def reload_(
    *, check: bool, url: str | None, token: str | None, as_json: bool, config_file: Path | None
) -> int:
    """Have the server read its configuration again; no answer is cut off.

    Ends with 2, and changes nothing, if anything is wrong with it; with 3 if no server runs.
    """
    import asyncio

    from mlxd.tui.problems import NotRunning, ServerProblem
    from mlxd.tui.terminal import UNICODE

    client = _client(url, token, config_file)
    if client is None:
        if check:
            load(config_file)
            fail("no server runs; nothing is wrong with the configuration.")
            return 0
        fail("no server of this account runs.")
        return NO_SERVER
    try:
        answer = asyncio.run(_ask(client, check=check))
    except ServerProblem as problem:
        lines = str(problem).splitlines()
        wrong = getattr(problem, "status", 0) == 400
        for line in lines:
            click.echo(f"{'' if wrong else 'mlxd: '}{UNICODE.clean(line)}", err=True)
        return WRONG if wrong else NO_SERVER if isinstance(problem, NotRunning) else FAILED
    if as_json:
        from mlxd.commands.output.json_forms import ReloadReport, print_as

        print_as(ReloadReport, answer)
        return 0
    for change in answer["changed"]:
        old, new = (json.dumps(change[each], ensure_ascii=False) for each in ("old", "new"))
        click.echo(UNICODE.clean(f"{change['key']}: {old} -> {new} ({change['effect']})"))
    if not answer["changed"]:
        click.echo("Nothing has changed.")
    return 0


def _client(url: str | None, token: str | None, config_file: Path | None) -> "ServerClient | None":
    """A client for the server, if there is one: also where its configuration is wrong now."""
    from mlxd.admin_token import chosen, find
    from mlxd.commands.conversation import find_target
    from mlxd.errors import ConfigError
    from mlxd.tui.client import ServerClient

    try:
        loaded = load(config_file)
        file = chosen(loaded.settings.admin.token_file, loaded.file)
        address = find_target(url, "", config_file).url
    except ConfigError:
        file = None
        address = find_target(url, "", None).url if url else ""
    access = find(address or None, file)
    if access is None and url is None:
        access = find(None, file)
    if access is not None:
        return ServerClient(access.url, token or access.token)
    return ServerClient(address, token) if address and token else None


async def _ask(client: "ServerClient", *, check: bool) -> dict[str, Any]:
    async with client:
        return await client.post(f"/admin/reload{'?check=true' if check else ''}")
