"""Whether mlxd can work on this machine: one finding at a time, each with its remedy."""

import errno
import http.client
import json
import os
import platform
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from mlxd import __version__, called, outdated
from mlxd.admin_token import running
from mlxd.commands.engine_probe import EngineMissing, probe
from mlxd.commands.local_models import LocalModel, can_be_pulled, find_model
from mlxd.commands.own_server import fetched
from mlxd.commands.sampling_defaults import advice_for, sampling_defaults
from mlxd.config.catalogue import gigabytes
from mlxd.config.engine_specs import model_specs, prefix_folder
from mlxd.config.load import Loaded, load
from mlxd.config.machine import backends, memory_bytes
from mlxd.config.settings import (
    ConversationSettings,
    DefaultSettings,
    ModelSettings,
    Settings,
)
from mlxd.engine.model_files.model_types import UNKNOWN
from mlxd.engine.prefix_disk import folder
from mlxd.engine.protocol import FREE_BYTES, ModelChanged, Ready
from mlxd.errors import ConfigError
from mlxd.status import AnswerFormat
from mlxd.store.conversations import store_path
from mlxd.store.database import MEMORY, inspect_file

OLDEST, NEWEST = (3, 11), (3, 13)
"""The Pythons that mlxd is tested with, first and last."""
HEALTH_SECONDS = 2.0
TRIED_BYTES = 2_000_000_000
"""A larger model takes too long to load for a look at everything."""
TIGHT = 0.8
"""A model that takes more than this part of the memory leaves little for prompts."""
LITTLE_MEMORY = 4_000_000_000


class Finding(NamedTuple):
    """One thing that was examined."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    remedy: str = ""


def examine(config_file: Path | None) -> Iterator[Finding]:
    """Examine everything that serving needs, quick things first."""
    yield python_finding(sys.version_info[:2])
    loaded, findings = config_findings(config_file)
    yield from findings
    settings = loaded.settings if loaded else Settings()
    yield port_finding(settings.server.host, settings.server.port)
    yield from version_findings()
    yield store_finding(settings.conversations, loaded.file if loaded else None)
    yield prefixes_finding(settings, loaded.file if loaded else None)
    models = settings.models or {"demo": ModelSettings(source="demo")}
    here = {alias: find_model(alias, model) for alias, model in models.items()}
    specs = model_specs(settings.model_copy(update={"models": models}))
    usable = [
        (spec, (here[spec.id].bytes or 0) <= TRIED_BYTES)
        for spec in specs
        if not here[spec.id].reason
    ]
    reports = probe(usable)
    engine = next(reports)
    yield engine_finding(engine, backends())
    ready = engine if isinstance(engine, Ready) else None
    yield memory_finding(memory_bytes(), ready.memory_limit if ready else None)
    if ready and sys.platform == "linux":
        yield blas_finding(ready.blas)
    memory = settings.engine.memory_bytes or (ready.memory_limit if ready else memory_bytes())
    for alias, model in models.items():
        found = here[alias]
        report = next(reports, None) if not found.reason else None
        tried = report if isinstance(report, ModelChanged) else None
        answers = tried.answers if tried else None
        yield model_finding(alias, model.source, found, memory=memory, answers=answers)
        if not found.reason:
            yield from sampling_findings(alias, model, settings.defaults)
        if tried:
            yield rows_finding(tried, found.bytes or 0)


def python_finding(version: tuple[int, ...]) -> Finding:
    """Whether this Python is one that mlxd is tested with."""
    text = f"Python {platform.python_version()}"
    if version < OLDEST:
        return Finding("fail", "python", text, "mlxd needs Python 3.11 or newer.")
    if version > NEWEST:
        return Finding("warn", "python", text, "mlxd is tested with Python 3.11 to 3.13.")
    return Finding("ok", "python", text)


def config_findings(config_file: Path | None) -> tuple[Loaded | None, list[Finding]]:
    """The configuration if it is valid, and a finding for each problem."""
    try:
        loaded = load(config_file, {})
    except ConfigError as error:
        lines = str(error).splitlines()
        return None, [Finding("fail", "config", line) for line in lines]
    text = str(loaded.file) if loaded.file else "no file, so the defaults"
    remedy = "" if loaded.file else f"`{called()} init` writes one."
    return loaded, [Finding("ok", "config", text, remedy)]


def engine_finding(engine: Ready | EngineMissing | ModelChanged, backends: list[str]) -> Finding:
    """Whether MLX loads and computes a product, what it computes on, and with which package."""
    if not isinstance(engine, Ready):
        remedy = "Install mlxd again: pip install --force-reinstall mlxd"
        return Finding("fail", "mlx", engine.reason, remedy)
    text = f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}, on {engine.device}"
    if len(backends) > 1:
        remedy = f"Keep one: pip uninstall {' '.join(backends)}, then pip install the one you want."
        return Finding("warn", "mlx", f"{text}, {' and '.join(backends)} in one file", remedy)
    text += f" with {backends[0]}" if backends else ""
    if engine.device == "cpu" and sys.platform == "darwin":
        return Finding("warn", "mlx", text, "Metal is not available; it needs Apple silicon.")
    return Finding("ok", "mlx", text)


def memory_finding(total: int, usable: int | None) -> Finding:
    """How much memory there is, and how much of it models may take."""
    text = gigabytes(total) + (f", {gigabytes(usable)} of it for models" if usable else "")
    if total < LITTLE_MEMORY:
        return Finding("warn", "memory", text, "Only very small models fit.")
    return Finding("ok", "memory", text)


def blas_finding(blas: str) -> Finding:
    """Which library computes float32 matrix products on Linux."""
    if blas.startswith("reference"):
        return Finding("warn", "blas", blas, "Without OpenBLAS prompts are read many times slower.")
    return Finding("ok", "blas", blas)


def port_finding(host: str, port: int) -> Finding:
    """Whether the server could listen, or already does."""
    where = f"{host}:{port}"
    problem = _bind(host, port)
    if problem is None:
        return Finding("ok", "port", f"{where} is free" if port else f"any free one of {host}")
    if problem == errno.EADDRINUSE:
        if status := running_server(host, port):
            return Finding("ok", "port", f"an mlxd server answers on {where} ({status})")
        remedy = f"Choose another: {called()} serve --port N, or server.port in the file."
        return Finding("fail", "port", f"{where} is taken by another program", remedy)
    reason = os.strerror(problem) if problem > 0 else "unknown host"
    return Finding("fail", "port", f"{where} can't be used: {reason}", "See server.host and port.")


def version_findings() -> Iterator[Finding]:
    """Servers of this account that still run what was installed before."""
    for access in running():
        server = fetched(access.url, "/admin/status", access.token).get("server", {})
        if outdated(str(server.get("version", ""))):
            text = f"{access.url} runs mlxd {server['version']}, {__version__} is installed"
            remedy = f"{called()} service restart"
            if access.started_by != "service":
                remedy = "End it, and start it again."
            yield Finding("warn", "version", text, remedy)


def store_finding(settings: ConversationSettings, config_file: Path | None) -> Finding:
    """Whether conversations can be kept; nothing is made or changed."""
    path = store_path(settings, config_file)
    if path == MEMORY:
        return Finding("ok", "store", "in memory, gone when the server ends")
    remedy = "See conversations.path, or keep them in memory: conversations.store."
    file = inspect_file(path)
    if file.problem:
        return Finding("fail", "store", f"{path}: {file.problem}", remedy)
    if not file.bytes:
        return Finding("ok", "store", f"{path} will be made")
    return Finding("ok", "store", f"{path}, {file.bytes / 1e6:.1f} MB, version {file.version}")


def prefixes_finding(settings: Settings, config_file: Path | None) -> Finding:
    """Whether prefixes are kept on the disk, and can be; nothing is made or changed."""
    limit = settings.engine.prefix_disk_bytes
    if not limit:
        return Finding("ok", "prefixes", "in memory; engine.prefix_disk_bytes keeps them on disk")
    root = prefix_folder(settings, config_file)
    there = folder.nearest(root)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        remedy = "See engine.prefix_disk_path."
        return Finding("warn", "prefixes", f"{there} can't be written", remedy)
    free, held = folder.free_bytes(root), sum(each.bytes for each in folder.summary(root))
    text = f"{root}, {gigabytes(held)} of {gigabytes(limit)}, {gigabytes(free)} of the disk free"
    if free < FREE_BYTES:
        least = gigabytes(FREE_BYTES)
        return Finding("warn", "prefixes", text, f"Nothing is written below {least} free.")
    return Finding("ok", "prefixes", text)


def _bind(host: str, port: int) -> int | None:
    """The error number that listening ends with, negative if the host is unknown."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # As the server does it: else a port it has just left would look taken for a minute.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except socket.gaierror:
        return -1
    except OSError as error:
        return error.errno or -1
    return None


def running_server(host: str, port: int) -> str:
    """What the `/health` of a running mlxd says in one word; empty if none answers there."""
    # A wildcard is an address to listen on, not one to connect to.
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(target, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health", headers={"Host": f"127.0.0.1:{port}"})
        body = json.loads(connection.getresponse().read(65536))
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()
    return str(body.get("status", "")) if isinstance(body, dict) else ""


def model_finding(
    alias: str,
    source: str,
    here: LocalModel,
    *,
    memory: int,
    answers: AnswerFormat | None = None,
) -> Finding:
    """Whether a model is here, whole, and fits into `memory` bytes; how its answers are read."""
    subject = f"model {alias}"
    if here.bytes is None or here.reason:
        remedy = f"{called()} pull {source}" if can_be_pulled(source) else "Check the folder."
        if UNKNOWN in here.reason:
            remedy = "Choose another model, or a newer version of mlxd."
        return Finding("fail", subject, f"{source}: {here.reason}", remedy)
    text = f"{source}, {gigabytes(here.bytes)} of {gigabytes(memory)}"
    if here.bytes > memory:
        return Finding("fail", subject, f"{text}: does not fit", "Choose a smaller one.")
    read = f"; {reading_of(answers)}" if answers else ""
    if here.bytes > memory * TIGHT:
        return Finding("warn", subject, f"{text}: tight{read}", "Long prompts may not fit.")
    if answers and answers.problem:
        return Finding("warn", subject, f"{text}{read}", f"{answers.problem}.")
    return Finding("ok", subject, f"{text}{read}")


def reading_of(answers: AnswerFormat) -> str:
    """How a model's answers are read, in a few words."""
    by = answers.tool_format_from
    calls = f"calls are read as {answers.tool_format} (from the {by})"
    if by == "reading":
        calls = f"calls are read as {answers.tool_format} (found by reading them)"
    if answers.tools == "words" and by != "configuration":
        calls = f"tools are described in words, calls are read as {answers.tool_format}"
    elif not answers.problem:
        calls += ", and read back"
    tags = " ".join(answers.reasoning_tags)
    thinking = f"thinking in {tags} (from the {answers.reasoning_tags_from})" if tags else ""
    return f"{calls}, {thinking or 'no thinking'}"


def sampling_findings(
    alias: str, model: ModelSettings, defaults: DefaultSettings
) -> Iterator[Finding]:
    """What a request gets that says nothing about sampling, and from where."""
    subject = f"model {alias}"
    for fault in advice_for(model).faults:
        yield Finding("warn", subject, fault)
    said = [
        f"{each.name} {each.value:g} ({each.origin})" for each in sampling_defaults(model, defaults)
    ]
    yield Finding("ok", subject, f"sampling: {', '.join(said)}")


def rows_finding(tried: ModelChanged, size: int) -> Finding:
    """Whether a model can be used, and batched; a large one was not loaded for it."""
    subject = f"model {tried.model}"
    match tried.state:
        case "failed":
            return Finding("fail", subject, tried.reason)
        case "unloaded":
            text = f"whether it can be batched is tried when it is loaded ({gigabytes(size)})"
            return Finding("ok", subject, text, f"The log and `{called()} top` say so.")
    if tried.unbatched:
        return Finding("warn", subject, f"served one request at a time: {tried.unbatched}")
    before = f" ({tried.reason})" if tried.reason else ""
    return Finding("ok", subject, f"requests are batched{before}")
