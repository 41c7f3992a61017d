"""The model that an agent is to talk to: its server, its name there, its window."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlxd.commands.conversation import USAGE, Target, find_target
from mlxd.commands.options import fail, load
from mlxd.commands.output.meter import Meter
from mlxd.commands.own_server import POLL, fetched, own_server
from mlxd.commands.run import prepared
from mlxd.launch.agent import Endpoint

if TYPE_CHECKING:
    from mlxd.admin_token import Access

SPECIAL = ("gpt-5*", "gpt-6*", "claude-*", "default", "haiku", "opus", "opusplan", "sonnet")
"""Names for which agents send other tools and other prompts, or take another model."""
GUESSED_WINDOW = 32768
"""Tokens, where nothing is started and no configuration says it."""
FAILED = 1


@contextmanager
def endpoint(
    model: str | None, config_file: Path | None, *, yes: bool, keep: bool
) -> Iterator[tuple[Endpoint, bool] | int]:
    """The endpoint and whether its server was started for this; or an exit code.

    A server that was started goes with the body, unless it is to be kept. Raises `ModelUnusable`.
    """
    if model and is_special(model):
        yield _refused(model)
        return
    target = find_target(None, None, config_file)
    access = _running(target)
    if access is not None:
        found = _served(access, target.key, model)
        yield found if isinstance(found, int) else (found, False)
        return
    start = prepared(model, config_file, yes=yes)
    if isinstance(start, int):
        yield start
    elif is_special(start.alias):
        yield _refused(start.alias)
    else:
        with own_server(start.options, start.alias, keep=keep, for_agent=True) as access:
            found = _served(access, target.key, start.alias)
            yield found if isinstance(found, int) else (found, True)


def endpoint_on_paper(model: str | None, config_file: Path | None) -> Endpoint | int:
    """The same as far as it can be said without starting or loading anything; or an exit code."""
    from mlxd.config.engine_specs import default_model

    if model and is_special(model):
        return _refused(model)
    target = find_target(None, None, config_file)
    access = _running(target)
    if access is not None:
        found = _chosen(access, target.key, model)
        if isinstance(found, int):
            return found
        url, name, window = access.url, str(found["id"]), found.get("max_input_tokens")
    else:
        models = load(config_file).settings.models
        name = model or default_model(load(config_file).settings) or "demo"
        if is_special(name):
            return _refused(name)
        known = (each for alias, each in models.items() if name in (alias, *each.aliases))
        configured = next(known, None)
        url, window = target.url, configured.context_length if configured else None
    if window is None:
        fail(f"the window of {name} is known when it is loaded; {GUESSED_WINDOW} is a guess.")
    return Endpoint(url, name, int(window or GUESSED_WINDOW), target.key)


def is_special(name: str) -> bool:
    """Whether agents take a name for something that it is not here."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in SPECIAL)


def _refused(name: str) -> int:
    fail(
        f"{name} is a name for which agents send other tools and prompts, or take another model. "
        "Ask for the model by its alias, or give it one of its own: aliases in its table."
    )
    return USAGE


def _running(target: Target) -> "Access | None":
    """The server that runs at the configured address, or the one that was started last."""
    from mlxd.admin_token import Access, find

    if access := find(target.url) or find():
        return access
    # One whose admin endpoint is off leaves no token.
    return Access(target.url, "") if fetched(target.url, "/health").get("status") else None


def _chosen(access: "Access", key: str, model: str | None) -> dict[str, Any] | int:
    """What the server says of the model that is to be used."""
    listed: Sequence[dict[str, Any]] = fetched(access.url, "/v1/models", key).get("data", ())
    names = [str(each.get("id")) for each in listed]
    if not names:
        fail(f"the server at {access.url} does not say which models it has; does it want a key?")
        return FAILED
    if model is None:
        default = _default(access)
        usable = [name for name in names if not is_special(name)]
        model = default if default in usable else next(iter(usable), names[0])
        if is_special(model):
            return _refused(model)
    if model not in names:
        fail(f"the server at {access.url} has no {model}. It has: {', '.join(names)}.")
        return USAGE
    return listed[names.index(model)]


def _default(access: "Access") -> str:
    models = fetched(access.url, "/admin/status", access.token).get("engine", {}).get("models", ())
    return next((str(each["id"]) for each in models if each.get("default")), "")


def _served(access: "Access", key: str, model: str | None) -> Endpoint | int:
    """The endpoint on a server that runs, with the model loaded."""
    found = _chosen(access, key, model)
    if isinstance(found, int):
        return found
    name = str(found["id"])
    window = found.get("max_input_tokens") or _loaded(access, key, name)
    if isinstance(window, str):
        fail(window)
        return FAILED
    return Endpoint(access.url, name, int(window), key)


def _loaded(access: "Access", key: str, model: str) -> int | str:
    """The window of a model that is loaded for this, or why there is none."""
    if not access.token:
        return f"the window of {model} is not known before it is loaded: ask it something first."
    name = quote(model, safe="")
    answer = fetched(access.url, f"/admin/models/{name}/load", access.token, method="POST")
    if "error" in answer:
        return str(answer["error"].get("message") or f"{model} can't be loaded.")
    with Meter({"load": f"loading {model}"}) as meter:
        while status := fetched(access.url, "/admin/status", access.token):
            meter.show("load", 0, 0)
            found = fetched(access.url, f"/v1/models/{name}", key)
            if window := found.get("max_input_tokens"):
                return int(window)
            for each in status["engine"]["models"]:
                if model in (each["id"], *each["aliases"]) and each["state"] == "failed":
                    return f"{model} can't be loaded: {each['reason']}"
            time.sleep(POLL)
    return f"the server at {access.url} is gone."
