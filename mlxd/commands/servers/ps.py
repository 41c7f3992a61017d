"""`mlxd ps`: the servers of this account that run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlxd.commands.options import config_option

if TYPE_CHECKING:
    from mlxd.admin_token import Access

HEADS = ("PID", "URL", "VERSION", "UP", "RUN", "WAIT", "MEMORY", "STARTED BY", "MODELS")


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ps(*, config_file: Path | None, as_json: bool) -> int:
    """List the servers of this account that run."""
    from mlxd.commands.output.json_forms import RunningServers, print_as
    from mlxd.commands.servers.found import servers, statuses
    from mlxd.server.logs import printable

    found = servers(config_file)
    rows = [row(*pair) for pair in zip(found, statuses(found), strict=True)]
    if as_json:
        print_as(RunningServers, {"servers": rows})
        return 0
    if not rows:
        click.echo("No server of this account runs.")
        return 0
    table = [HEADS, *([printable(cell) for cell in cells(each)] for each in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo("  ".join(map(str.ljust, line, widths)).rstrip())
    return 0


def row(access: "Access", status: Mapping[str, Any]) -> dict[str, Any]:
    """One server as `--json` shows it."""
    server, engine = status.get("server", {}), status.get("engine", {})
    requests = engine.get("requests", ())
    waiting = sum(each["phase"] == "queued" for each in requests)
    return {
        "pid": access.pid,
        "url": access.url,
        "started_by": access.started_by,
        "version": server.get("version", ""),
        "state": server.get("state", "unreachable"),
        "health": server.get("health", ""),
        "uptime": server.get("uptime", 0.0),
        "config_file": server.get("config_file", ""),
        "models": [{"id": each["id"], "state": each["state"]} for each in engine.get("models", ())],
        "running": len(requests) - waiting,
        "waiting": waiting,
        "server_memory": server.get("memory", 0),
        "engine_memory": engine.get("figures", {}).get("memory_used", 0),
    }


def cells(entry: Mapping[str, Any]) -> list[str]:
    """One server as a line of the table."""
    from mlxd.tui.format import size, span

    known = bool(entry["version"])
    state = entry["health"] if known else entry["state"]
    loaded = [each["id"] for each in entry["models"] if each["state"] == "loaded"]
    others = len(entry["models"]) - len(loaded)
    models = [*loaded, *([f"{others} not loaded"] if others else [])]
    figures = [
        entry["version"],
        span(entry["uptime"]),
        str(entry["running"]),
        str(entry["waiting"]),
        size(entry["server_memory"] + entry["engine_memory"]),
    ]
    return [
        *(str(entry["pid"]), entry["url"]),
        *(figures if known else ["-"] * len(figures)),
        entry["started_by"] or "-",
        ", ".join(models) if state == "ok" else f"{', '.join(models)} ({state})".strip(),
    ]
