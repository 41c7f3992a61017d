"""The objects that commands print with `--json`; docs/json.md shows them as JSON Schema.

Sizes are in bytes, windows in tokens; null stands for what is not known.
"""

from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from mlxd.status import Status


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is configured or here.

    `alias` is empty where no table names it; `state` is `ready`, `not configured`, `incomplete`
    (a download that was broken off), or the reason why it can't be served.
    """

    alias: str
    state: str
    source: str
    bytes: int | None
    window: int | None
    folder: str | None
    default: bool = False


class RecommendedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue; `window_here` is what this machine's memory has room for, 0 where
    the model is too large."""

    name: str
    source: str
    bytes: int
    window: int
    window_here: int
    what: str
    here: bool


class Recommendations(msgspec.Struct, frozen=True, kw_only=True):
    """The catalogue as it was on a day, for a machine with so much memory for models."""

    date: str
    memory: int
    models: list[RecommendedModel]


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a search has found; `downloads` is null where the hub was not asked, `fits` says
    whether its weights fit into this machine's memory with room for a prompt."""

    source: str
    bytes: int | None
    downloads: int | None
    gated: bool
    fits: bool | None
    here: bool


class SearchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a search has found, in the hub or, where it can't be reached, in the catalogue."""

    asked: Literal["hub", "catalogue"]
    models: list[SearchResult]


class FileEntry(msgspec.Struct, frozen=True):
    """A file of a model."""

    name: str
    bytes: int


class SamplingEntry(msgspec.Struct, frozen=True):
    """A parameter of sampling as requests get it that leave it open, and where that stands."""

    name: str
    value: float
    origin: str


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """All about one model. `window_here` is what this machine's memory has room for, where the
    catalogue knows it. What is said of tools, thinking and the template is null where the model is
    not here, or can't be read."""

    source: str
    aliases: list[str]
    state: str
    what: str
    revision: str | None
    folder: str | None
    bytes: int | None
    window: int | None
    window_here: int | None
    model_type: str | None
    files: list[FileEntry]
    sampling: list[SamplingEntry]
    tools: str | None = None
    tool_format: str | None = None
    thinking: list[str] | None = None
    template: list[str] | None = None
    problem: str = ""


class VerifiedFile(msgspec.Struct, frozen=True):
    """A file and what its hash says; `unknown` where nobody gave one."""

    name: str
    state: Literal["ok", "damaged", "missing", "unknown"]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model's files are what the hub gave; `problem` says what else is wrong."""

    source: str
    folder: str
    ok: bool
    problem: str
    files: list[VerifiedFile]


class DoctorEntry(msgspec.Struct, frozen=True):
    """One thing that was examined."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    remedy: str


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was examined; `ok` unless something would keep the server from working."""

    ok: bool
    findings: list[DoctorEntry]


class ConfigEntry(msgspec.Struct, frozen=True):
    """The effective value of a key, and where it came from."""

    key: str
    value: Any
    origin: str


class ConfigReport(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in effect, and the file that was read."""

    file: str | None
    values: list[ConfigEntry]


class PullSize(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="size"):
    """The first line: bytes in all, those that are here, those that are free on the disk."""

    source: str
    total: int
    here: int
    free: int
    fits_memory: bool


class PullProgress(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="progress"):
    """How far a step is; `total` is 0 where there is no measure."""

    phase: Literal["download", "check", "convert", "test"]
    done: int
    total: int


class PullDone(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
    """The last line, if all went well; `alias` is the table's that was added, `problem` why the
    model can't be served although it is here."""

    source: str
    folder: str
    bytes: int
    problem: str = ""
    alias: str | None = None
    config: str | None = None


class PullFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="failed"):
    """The last line, if not."""

    source: str
    reason: str


PullStep = PullSize | PullProgress | PullDone | PullFailed


class LaunchableAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that can be started on a model: its `program` where it is installed, else how it is
    installed; the version it was tried with; about how many tokens it begins with."""

    name: str
    title: str
    program: str | None
    install: str
    tested: str | None
    first_prompt: int | None
    starts: bool


class ServedModel(msgspec.Struct, frozen=True):
    """A model of a running server."""

    id: str
    state: str


class RunningServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server of this account; `version` is empty where it does not answer."""

    pid: int
    url: str
    started_by: str
    version: str
    state: str
    health: str
    uptime: float
    config_file: str
    models: list[ServedModel]
    running: int
    waiting: int
    server_memory: int
    engine_memory: int


class RunningServers(msgspec.Struct, frozen=True):
    """All that run."""

    servers: list[RunningServer]


class ServiceEnd(msgspec.Struct, frozen=True):
    """How a service ended for good; `at` is in seconds since 1970."""

    code: int
    reason: str
    at: float


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the service is, to its manager and by its own words; `pid` 0 where it does not run."""

    installed: bool
    manager: str
    unit: str
    state: str
    pid: int
    url: str
    health: str
    uptime: float
    version: str
    installed_version: str
    restart_needed: bool
    last_exit: ServiceEnd | None
    log: str


class KeptPrefixes(msgspec.Struct, frozen=True):
    """What is kept of a model's prompts."""

    model: str
    entries: int
    bytes: int


class PrefixReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept on the disk of earlier prompts, or what was `removed`."""

    path: str
    limit: int
    bytes: int
    entries: int
    removed: bool
    models: list[KeptPrefixes]


class ReloadedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is another now, secrets masked; null where it, or its model, was not there."""

    key: str
    old: Any
    new: Any
    effect: Literal["now", "next load", "restart"]


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a server has found in its configuration, and taken where that needs no restart."""

    changed: list[ReloadedKey]


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer took."""

    input_tokens: int
    output_tokens: int


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; `finish` is `stop`, `length`, `tool_calls`, or the name of what went wrong,
    `seconds` go from the question to the last token."""

    text: str
    reasoning: str
    model: str
    usage: TokenUsage
    finish: str
    seconds: float


class EarlierConversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation of `mlxd chat`, last used `at` seconds since 1970."""

    id: str
    title: str
    url: str
    model: str
    at: float
    turns: int


FORMS: dict[str, Any] = {
    "mlxd models --json": list[ModelEntry],
    "mlxd models --recommended --json": Recommendations,
    "mlxd models search --json": SearchReport,
    "mlxd models show --json": ModelDetails,
    "mlxd models verify --json": Verification,
    "mlxd pull --json": PullStep,
    "mlxd doctor --json": DoctorReport,
    "mlxd config show --json": ConfigReport,
    "mlxd launch --json": list[LaunchableAgent],
    "mlxd ps --json": RunningServers,
    "mlxd service status --json": ServiceReport,
    "mlxd chat --json": ChatAnswer,
    "mlxd chat --list --json": list[EarlierConversation],
    "mlxd reload --json": ReloadReport,
    "mlxd prefixes --json": PrefixReport,
    "mlxd top --json": Status,
}
"""What each command prints, as one object, or one a line."""


def print_as(form: Any, facts: object) -> None:
    """Facts as one object on stdout, in the form that docs/json.md shows."""
    print_json(msgspec.convert(facts, form))


def print_json(value: object) -> None:
    """One object on stdout, for people to read too."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_line(value: object) -> None:
    """One object on a line of its own, at once."""
    click.echo(msgspec.json.encode(value).decode())


def text_or_none(path: Path | None) -> str | None:
    """A path as text."""
    return None if path is None else str(path)
