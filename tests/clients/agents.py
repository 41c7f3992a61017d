"""opencode, pi and Qwen Code against a scripted server: a tool round trip over each API.

Not part of `make test`, because it installs the agents, hundreds of megabytes, from npm, once:

    python -m tests.clients.agents             # every agent
    python -m tests.clients.agents pi          # those whose names begin so

Each gets a home folder of its own and talks to nothing but a server on loopback.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.clients.checks import (
    ANSWER,
    PATIENCE,
    QUESTION,
    TOML,
    WINDOW,
    answered,
    expect,
    installed,
    passes,
)
from tests.e2e.support import serve


@dataclass(frozen=True)
class Agent:
    """How an agent is told of the server; `{port}` stands for the server's port."""

    name: str
    package: str
    program: str
    arguments: Sequence[str]
    settings: Mapping[str, Any]
    """Files of its home folder, as JSON."""
    environment: Mapping[str, str] = field(default_factory=dict)


def opencode(name: str, npm: str) -> Agent:
    """It looks for the path of the package's API below the address."""
    provider = {
        "npm": npm,
        "options": {"baseURL": "http://127.0.0.1:{port}/v1", "apiKey": "unused"},
        "models": {"demo": {"limit": {"context": WINDOW, "output": 4096}}},
    }
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "small_model": "mlxd/demo",
        "permission": {"bash": "allow"},
        "provider": {"mlxd": provider},
    }
    off = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS")
    return Agent(
        name,
        "opencode-ai@1.18.33",
        "opencode",
        ("run", "--format", "json", "-m", "mlxd/demo", QUESTION),
        {".config/opencode/opencode.json": settings},
        {f"OPENCODE_DISABLE_{what}": "1" for what in off},
    )


def pi(name: str, api: str, address: str) -> Agent:
    model = {
        "id": "demo",
        "name": "demo",
        "reasoning": True,
        "input": ["text"],
        "contextWindow": WINDOW,
        "maxTokens": 4096,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }
    provider = {"baseUrl": address, "api": api, "apiKey": "unused", "models": [model]}
    return Agent(
        name,
        "@mariozechner/pi-coding-agent@0.73.1",
        "pi",
        ("-p", "--mode", "json", "--provider", "mlxd", "--model", "demo", QUESTION),
        {".pi/agent/models.json": {"providers": {"mlxd": provider}}},
        {"PI_OFFLINE": "1"},
    )


def qwen(name: str, api: str, environment: Mapping[str, str]) -> Agent:
    quiet = {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False},
    }
    return Agent(
        name,
        "@qwen-code/qwen-code@0.24.4",
        "qwen",
        ("--auth-type", api, "-m", "demo", "--bare", "--yolo", "-o", "json", "-p", QUESTION),
        {".qwen/settings.json": quiet},
        environment,
    )


AGENTS = (
    opencode("opencode-chat", "@ai-sdk/openai-compatible"),
    opencode("opencode-responses", "@ai-sdk/openai"),
    opencode("opencode-messages", "@ai-sdk/anthropic"),
    pi("pi-chat", "openai-completions", "http://127.0.0.1:{port}/v1"),
    pi("pi-responses", "openai-responses", "http://127.0.0.1:{port}/v1"),
    pi("pi-messages", "anthropic-messages", "http://127.0.0.1:{port}"),
    qwen(
        "qwen-chat",
        "openai",
        {"OPENAI_BASE_URL": "http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "unused"},
    ),
    qwen(
        "qwen-responses",
        "openai-responses",
        {"OPENAI_BASE_URL": "http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "unused"},
    ),
    qwen(
        "qwen-messages",
        "anthropic",
        {"ANTHROPIC_BASE_URL": "http://127.0.0.1:{port}", "ANTHROPIC_API_KEY": "unused"},
    ),
)


def main() -> int:
    """Run every agent that is asked for; the exit code is the number of those that failed."""
    wanted = tuple(sys.argv[1:]) or ("",)
    agents = [agent for agent in AGENTS if agent.name.startswith(wanted)]
    return sum(
        not passes(agent.name, partial(a_tool_call_goes_round, agent, installed_agent(agent)))
        for agent in agents
    )


def installed_agent(agent: Agent) -> str:
    """The tested version of an agent."""
    package, _, version = agent.package.rpartition("@")
    return installed(package, version, agent.program)


def a_tool_call_goes_round(agent: Agent, cli: str, folder: Path) -> None:
    """It calls a tool, sends the result once, and the second turn reuses the first's prompt."""
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=WINDOW)) as server:
        told = run(agent, cli, folder / "home", server.port)
        turns = answered(server)
    expect(ANSWER in told, told)
    # A request without tools, for a title, may come before or between the two turns.
    calls = [turn for turn in turns if turn["finish"] == "tool_calls"]
    expect(len(calls) == 1 and len(turns) <= 3, turns)
    expect(turns[-1]["finish"] == "stop", turns)
    expect(max(int(turn["cached"]) for turn in turns) >= int(calls[0]["prompt"]) - 1, turns)


def run(agent: Agent, cli: str, home: Path, port: int) -> str:
    """What an agent prints of one run."""
    work = home / "work"
    work.mkdir(parents=True)
    for name, settings in agent.settings.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings).replace("{port}", str(port)), encoding="utf-8")
    told = {name: value.replace("{port}", str(port)) for name, value in agent.environment.items()}
    done = subprocess.run(
        [cli, *agent.arguments],
        cwd=work,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **told},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    expect(done.returncode == 0, done)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
