"""What an agent is to us: what it is started with, and what its own configuration would say."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlxd.launch.edit import Edit

KEY = "MLXD_API_KEY"
"""The environment variable that agents are told to take the server's key from."""
ANY_KEY = "unused"
"""What agents get where the server asks for no key; most refuse to start without one."""
LONGEST_ANSWER = 8192
"""Tokens that an agent keeps free for an answer, in a window that has them."""
HALF_AN_HOUR = 1_800_000
"""Milliseconds that agents wait for a local model, which may have a long prompt to read."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Endpoint:
    """The model that an agent is to talk to: `window` in tokens, `key` empty if none is needed."""

    url: str
    model: str
    window: int
    key: str = field(default="", repr=False)

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    @property
    def answer(self) -> int:
        """Tokens of the window that an answer may take."""
        return max(1, min(LONGEST_ANSWER, self.window // 4))

    @property
    def secret(self) -> str:
        """The key as a value of the environment, where it may stand."""
        return self.key or ANY_KEY

    def key_or(self, reference: str) -> str:
        """For files: `reference` says where the key is found, if there is one."""
        return reference if self.key else ANY_KEY

    @property
    def shown(self) -> "Endpoint":
        """The same for people's eyes and for files of theirs: the key by the variable's name."""
        return replace(self, key=f"${KEY}" if self.key else "")

    @property
    def key_variable(self) -> dict[str, str]:
        """What a configuration with a reference to the key needs in the environment."""
        return {KEY: self.key} if self.key else {}


@dataclass(frozen=True)
class Places:
    """Where an agent's files are. `own` is a folder of ours for this agent."""

    home: Path
    own: Path
    variables: Mapping[str, str]
    mac: bool = False

    def folder(self, variable: str, usual: str) -> Path:
        """The folder that a variable names, else the usual one in the home folder."""
        named = self.variables.get(variable, "")
        return Path(named).expanduser() if named else self.home / usual

    @property
    def config(self) -> Path:
        """Where programs that follow the desktops' rules keep their configuration."""
        return self.folder("XDG_CONFIG_HOME", ".config")

    @property
    def app_data(self) -> Path:
        """The same for programs that follow each system's rules."""
        return self.home / "Library/Application Support" if self.mac else self.config


@dataclass(frozen=True)
class Command:
    """A command line, and what it needs in the environment.

    `unset` are variables that would lead it elsewhere, `files` what it reads of ours.
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    unset: Sequence[str] = ()
    files: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Addition:
    """One entry for a file of the agent's, and the command that uses it.

    Without an `edit` it is only shown: the file has comments, or no one place for it.
    """

    file: Path
    block: str
    use: Command
    edit: Edit | None = None


Builder = Callable[[Endpoint, Places], Command]


@dataclass(frozen=True)
class Agent:
    """A row of the table. `first_prompt` is in tokens, `version` the one that was run with mlxd.

    Without `start` it has no command line to launch. `starts_from_file` says that its start uses
    the entry that `addition` describes; `asks_first` that the file with it is the user's own.
    """

    name: str
    title: str
    program: str
    install: str
    addition: Callable[[Endpoint, Places], Addition]
    start: Builder | None = None
    version: str = ""
    first_prompt: int = 0
    smaller: str = ""
    also: tuple[str, ...] = ()
    starts_from_file: bool = False
    asks_first: bool = False
    note: str = ""


def environment_for(
    command: Command, endpoint: Endpoint, variables: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of an agent's process."""
    kept = {name: value for name, value in variables.items() if name not in command.unset}
    names = {name for each in PROXIES for name in (each, each.upper())}
    if names & kept.keys():
        # Agents send what is for this machine through a proxy as well, unless they are told.
        past = kept.get("no_proxy") or kept.get("NO_PROXY")
        hosts = ",".join(filter(None, (past, urlsplit(endpoint.url).hostname)))
        kept |= {"no_proxy": hosts, "NO_PROXY": hosts}
    return {**kept, **command.environment}


def shortened(path: Path, home: Path) -> str:
    """A path as people write it."""
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """A configuration file in JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
