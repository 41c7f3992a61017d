"""What a newcomer wants to know when the server is up, as a block of text."""

import json
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlxd import __version__, called
from mlxd.api.app import dialects_for
from mlxd.api.dialect import Dialect, Trial
from mlxd.config.api_keys import all_keys
from mlxd.config.engine_specs import default_model
from mlxd.config.settings import Settings
from mlxd.status import ModelInfo

WAITING = "waiting: they are looked for again at each request"


def announcement(
    url: str,
    settings: Settings,
    models: Sequence[ModelInfo],
    *,
    unusable: Mapping[str, str],
    store: str,
    config_file: Path | None,
) -> str:
    """What is served where, and a first thing to try, unless no model could answer.

    `unusable` has why a model can't be served now, by its name; `store` is a path, if it has one.
    """
    default = default_model(settings)
    lines = [
        model_line(model, loads_now=model.id == default, unusable=unusable.get(model.id, ""))
        for model in models
    ]
    usable = [model.id for model in models if model.id not in unusable]
    if models and not usable:
        lines.append(WAITING)
    rows = [
        ("APIs", [api_line(url, each) for each in dialects_for(settings)]),
        ("models", lines or [f"none; `{called()} init` writes a configuration with one"]),
        ("store", [store or "in memory, gone when the server ends"]),
        ("config", [str(config_file or "none; built-in defaults")]),
        ("log", [f"stderr, {settings.log.level} and above"]),
    ]
    if usable:
        page = f", or {url}/ in a browser" if settings.server.page else ""
        rows.append(("chat", [f"{called()} chat, in another terminal{page}"]))
        rows.append(("agents", [f"{called()} launch AGENT; {called()} launch --list names them"]))
    written = [
        f"  {label if number == 0 else '':<8} {text}"
        for label, texts in rows
        for number, text in enumerate(texts)
    ]
    tried = default if default in usable else next(iter(usable), None)
    trials = (each.trial(tried) for each in dialects_for(settings)) if tried else ()
    trial = next(filter(None, trials), None)
    curl = _curl(url, trial, keyed=bool(all_keys(settings))) if trial else []
    return "\n".join([f"mlxd {__version__} serves {url}", *written, *curl, *_hints(), ""])


def _curl(url: str, trial: Trial, *, keyed: bool) -> list[str]:
    key = ' -H "authorization: Bearer $YOUR_KEY"' if keyed else ""
    return [
        "Try it:",
        f"  curl {url}{trial.path} -H 'content-type: application/json'{key} \\",
        f"    -d {shlex.quote(json.dumps(trial.body, separators=(',', ':')))}",
    ]


def _hints() -> Iterator[str]:
    # Called by its path in a checkout: `make serve` has put it there.
    if called() != "mlxd" and Path("Makefile").is_file():
        yield "`make install` puts mlxd on your PATH."
    yield "Ctrl-C stops the server."


def base_url(host: str, sockets: Sequence[socket.socket]) -> str:
    """Where a program on this machine reaches the server."""
    port = sockets[0].getsockname()[1]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def api_line(url: str, dialect: Dialect) -> str:
    """A dialect with its addresses."""
    address = url.rpartition(":")[0]
    others = "".join(f", {address}:{port}{dialect.base_path}" for port in dialect.ports)
    return f"{dialect.name:<16} {url}{dialect.base_path}{others}"


def model_line(model: ModelInfo, *, loads_now: bool, unusable: str = "") -> str:
    """A model with its other names and what becomes of it."""
    names = ", ".join([model.id, *model.aliases])
    match model.state:
        case _ if unusable:
            state = f"can't be served: {unusable}"
        case "unloaded":
            state = "loading" if loads_now else "loads when first asked for"
        case "failed":
            state = f"failed: {model.reason}"
        case "loading" | "loaded" as state:
            pass
    return f"{names}  ({model.source}; {state})"
