"""Agents for models of all kinds, from npm: what each is started with, in its own words."""

import json
from typing import Any

from mlxd.launch.agent import KEY, Addition, Agent, Command, Endpoint, Places, as_json
from mlxd.launch.edit import NAME
from mlxd.launch.json_entry import JsonEntry

NO_COST = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}


def _opencode_provider(to: Endpoint) -> dict[str, Any]:
    options = {"baseURL": to.v1, "apiKey": to.key_or(f"{{env:{KEY}}}")}
    limit = {"context": to.window, "output": to.answer}
    models = {to.model: {"name": to.model, "limit": limit}}
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": NAME,
        "options": options,
        "models": models,
    }


def opencode(to: Endpoint, at: Places) -> Command:
    name = f"{NAME}/{to.model}"
    config = {
        "model": name,
        "small_model": name,
        "provider": {NAME: _opencode_provider(to)},
    }
    content = {"OPENCODE_CONFIG_CONTENT": json.dumps(config, ensure_ascii=False)}
    return Command(("opencode",), {**content, **to.key_variable})


def opencode_addition(to: Endpoint, at: Places) -> Addition:
    provider = _opencode_provider(to)
    return Addition(
        at.config / "opencode/opencode.json",
        as_json({"provider": {NAME: provider}}),
        Command(("opencode", "-m", f"{NAME}/{to.model}"), to.key_variable),
        JsonEntry(
            ("provider", NAME), provider, frame={"$schema": "https://opencode.ai/config.json"}
        ),
    )


def _provider(to: Endpoint, api: str, reference: str) -> dict[str, Any]:
    """A provider as pi and OpenClaw have it."""
    model = {
        "id": to.model,
        "name": to.model,
        "reasoning": False,
        "input": ["text"],
        "contextWindow": to.window,
        "maxTokens": to.answer,
        "cost": NO_COST,
    }
    return {"baseUrl": to.v1, "api": api, "apiKey": to.key_or(reference), "models": [model]}


def _openclaw_provider(to: Endpoint) -> dict[str, Any]:
    return _provider(to, "openai-responses", f"${{{KEY}}}")


def openclaw(to: Endpoint, at: Places) -> Command:
    file = at.own / "openclaw.json"
    config = {
        "models": {"mode": "merge", "providers": {NAME: _openclaw_provider(to)}},
        "update": {"checkOnStart": False},
    }
    model = ("--model", f"{NAME}/{to.model}")
    return Command(
        ("openclaw", "agent", "exec", "--config", str(file), *model),
        {"OPENCLAW_NO_AUTO_UPDATE": "1", **to.key_variable},
        files={file: as_json(config)},
    )


def openclaw_addition(to: Endpoint, at: Places) -> Addition:
    provider = _openclaw_provider(to)
    words = ("openclaw", "agent", "exec", "--model", f"{NAME}/{to.model}")
    return Addition(
        at.folder("OPENCLAW_STATE_DIR", ".openclaw") / "openclaw.json",
        as_json({"models": {"providers": {NAME: provider}}}),
        Command(words, to.key_variable),
        JsonEntry(("models", "providers", NAME), provider),
    )


def pi(to: Endpoint, at: Places) -> Command:
    words = ("pi", "--provider", NAME, "--model", to.model)
    return Command(words, {"PI_OFFLINE": "1", **to.key_variable})


def pi_addition(to: Endpoint, at: Places) -> Addition:
    provider = _provider(to, "openai-completions", KEY)
    return Addition(
        at.folder("PI_CODING_AGENT_DIR", ".pi/agent") / "models.json",
        as_json({"providers": {NAME: provider}}),
        pi(to, at),
        JsonEntry(("providers", NAME), provider),
    )


def qwen(to: Endpoint, at: Places) -> Command:
    return Command(
        ("qwen", "--auth-type", "openai", "-m", to.model),
        {"OPENAI_BASE_URL": to.v1, "OPENAI_API_KEY": to.secret, "OPENAI_MODEL": to.model},
    )


def qwen_addition(to: Endpoint, at: Places) -> Addition:
    model = {
        "id": to.model,
        "name": NAME,
        "baseUrl": to.v1,
        "envKey": KEY,
        "generationConfig": {"contextWindowSize": to.window},
    }
    return Addition(
        at.home / ".qwen/settings.json",
        as_json({"modelProviders": {"openai": [model]}}),
        Command(("qwen", "--auth-type", "openai", "-m", to.model), {KEY: to.secret}),
        JsonEntry(("modelProviders", "openai"), model, item=True),
    )


CLINE = "openai-compatible"
"""The one provider of Cline's that takes an address."""


def _cline_provider(to: Endpoint) -> dict[str, Any]:
    settings = {"provider": CLINE, "model": to.model, "baseUrl": to.v1}
    # It has to have a time; when it is does not matter.
    return {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}


def cline(to: Endpoint, at: Places) -> Command:
    provider = _cline_provider(to)
    # Its process in the background may be older than this environment, so the key is in the file.
    provider["settings"]["apiKey"] = to.secret
    file = at.own / "data/settings/providers.json"
    whole = {
        "version": 1,
        "lastUsedProvider": CLINE,
        "modes": {},
        "providers": {CLINE: provider},
    }
    return Command(
        ("cline", "-P", CLINE, "-m", to.model),
        {"CLINE_DATA_DIR": str(at.own / "data")},
        files={file: as_json(whole)},
    )


def cline_addition(to: Endpoint, at: Places) -> Addition:
    provider = _cline_provider(to)
    if not to.key:
        provider["settings"]["apiKey"] = to.secret
    return Addition(
        at.folder("CLINE_DATA_DIR", ".cline/data") / "settings/providers.json",
        as_json({"providers": {CLINE: provider}}),
        Command(
            ("cline", "-P", CLINE, "-m", to.model), {"OPENAI_API_KEY": to.key} if to.key else {}
        ),
        JsonEntry(("providers", CLINE), provider, frame={"version": 1, "modes": {}}),
    )


def _continue_model(to: Endpoint) -> dict[str, Any]:
    return {
        "name": to.model,
        "provider": "openai",
        "model": to.model,
        "apiBase": to.v1,
        "apiKey": to.key_or(f"${{{{ secrets.{KEY} }}}}"),
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"],
        "defaultCompletionOptions": {"contextLength": to.window, "maxTokens": to.answer},
    }


def continue_(to: Endpoint, at: Places) -> Command:
    file = at.own / "config.yaml"
    config = {"name": NAME, "version": "1.0.0", "schema": "v1", "models": [_continue_model(to)]}
    # YAML takes JSON as it is.
    return Command(("cn", "--config", str(file)), to.key_variable, files={file: as_json(config)})


def continue_addition(to: Endpoint, at: Places) -> Addition:
    pairs = (f"{key}: {json.dumps(value)}" for key, value in _continue_model(to).items())
    block = "models:\n  - " + "\n    ".join(pairs) + "\n"
    return Addition(at.home / ".continue/config.yaml", block, Command(("cn",), to.key_variable))


AGENTS = (
    Agent(
        "opencode",
        "opencode",
        "opencode",
        "npm install -g opencode-ai",
        opencode_addition,
        opencode,
        version="1.18.33",
        first_prompt=7_000,
        note="""\
It is started on Chat Completions, because with its other providers it drops the reasoning of
earlier turns, and so does Cline. Give it a window of 16384 at least: in one that can't hold the
prompt it compacts the conversation and tries again without end; `"compaction": {"auto": false}`
makes it stop with the server's error.""",
    ),
    Agent(
        "openclaw",
        "OpenClaw",
        "openclaw",
        "npm install -g openclaw",
        openclaw_addition,
        openclaw,
        version="2026.9.6",
        first_prompt=10_800,
        note="""\
`mlxd launch openclaw -- "what to do"` runs one task. `--config-only` is for its gateway.""",
    ),
    Agent(
        "pi",
        "pi",
        "pi",
        "npm install -g @mariozechner/pi-coding-agent",
        pi_addition,
        pi,
        version="0.73.1",
        first_prompt=1_300,
        starts_from_file=True,
        asks_first=True,
        note="""\
It takes providers from its own file alone (another folder would hold its sessions too), so that
launching it asks before the entry is put there. It has the smallest prompt of all.""",
    ),
    Agent(
        "qwen",
        "Qwen Code",
        "qwen",
        "npm install -g @qwen-code/qwen-code",
        qwen_addition,
        qwen,
        version="0.24.4",
        first_prompt=21_000,
        smaller="`-- --bare` makes it about 9,000 tokens",
        also=("qwen-code",),
    ),
    Agent(
        "cline",
        "Cline",
        "cline",
        "npm install -g cline",
        cline_addition,
        cline,
        version="3.0.65",
        first_prompt=5_300,
        note="""\
It is launched with a data folder of its own, so that your sessions and providers stay as they
are. It has one provider for addresses, `openai-compatible`; `--config-only` leaves it alone if you
use it for something else.""",
    ),
    Agent(
        "continue",
        "Continue (cn)",
        "cn",
        "npm install -g @continuedev/cli",
        continue_addition,
        continue_,
        version="1.5.47",
        also=("cn",),
    ),
)
