"""The agents of those who make models: what each is started with, in its own words."""

import json

from mlxd.launch.agent import HALF_AN_HOUR, KEY, Addition, Agent, Command, Endpoint, Places, as_json
from mlxd.launch.edit import NAME, WholeFile

CLAUDE_ELSEWHERE = (
    *("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
    "CLAUDE_CODE_USE_FOUNDRY",
)


def _claude_variables(to: Endpoint) -> dict[str, str]:
    models = ("ANTHROPIC_MODEL", "ANTHROPIC_CUSTOM_MODEL_OPTION", "CLAUDE_CODE_SUBAGENT_MODEL")
    sizes = (f"ANTHROPIC_DEFAULT_{size}_MODEL" for size in ("HAIKU", "SONNET", "OPUS"))
    quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY")
    return {
        "ANTHROPIC_BASE_URL": to.url,
        "ANTHROPIC_AUTH_TOKEN": to.secret,
        **dict.fromkeys((*models, *sizes), to.model),
        "API_TIMEOUT_MS": str(HALF_AN_HOUR),
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(to.window),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(to.answer),
        **dict.fromkeys((*quiet, "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING"), "1"),
    }


def _claude_settings(to: Endpoint) -> str:
    """What beats the `env` of a user's own settings, which beats the environment."""
    variables = _claude_variables(to)
    if to.key:
        del variables["ANTHROPIC_AUTH_TOKEN"]
    return as_json({"env": {**variables, **dict.fromkeys(CLAUDE_ELSEWHERE, "")}})


def claude(to: Endpoint, at: Places) -> Command:
    settings = at.own / "settings.json"
    words = ("claude", "--permission-mode", "default", "--settings", str(settings))
    return Command(words, _claude_variables(to), CLAUDE_ELSEWHERE, {settings: _claude_settings(to)})


def claude_addition(to: Endpoint, at: Places) -> Addition:
    file = at.folder("CLAUDE_CONFIG_DIR", ".claude") / "mlxd.json"
    text = _claude_settings(to)
    key = {"ANTHROPIC_AUTH_TOKEN": to.key} if to.key else {}
    use = Command(("claude", "--permission-mode", "default", "--settings", str(file)), key)
    return Addition(file, text, use, WholeFile(text))


def codex(to: Endpoint, at: Places) -> Command:
    return Command(("codex", "--profile", NAME, "--model", to.model), {KEY: to.secret})


def codex_addition(to: Endpoint, at: Places) -> Addition:
    # Values of its own dialect of TOML: strings as JSON writes them.
    text = f"""\
model = {json.dumps(to.model, ensure_ascii=False)}
model_provider = "{NAME}"
model_context_window = {to.window}

[model_providers.{NAME}]
name = "{NAME}"
base_url = {json.dumps(to.v1)}
wire_api = "responses"
env_key = "{KEY}"
stream_idle_timeout_ms = {HALF_AN_HOUR}
"""
    file = at.folder("CODEX_HOME", ".codex") / "mlxd.config.toml"
    return Addition(file, text, codex(to, at), WholeFile(text))


AGENTS = (
    Agent(
        "claude",
        "Claude Code",
        "claude",
        "npm install -g @anthropic-ai/claude-code",
        claude_addition,
        claude,
        version="2.1.332",
        first_prompt=11_000,
        smaller="CLAUDE_CODE_SIMPLE=1 in the environment (three tools) makes it about 1,000 tokens",
        also=("claude-code",),
        note="""\
Its automatic permission mode asks the vendor's servers whether a call is safe, which no local
server can answer: in the default mode it asks you. The variables are in a file for `--settings` as
well, because an `env` in your own settings would beat the environment.

Without `CLAUDE_CODE_MAX_CONTEXT_TOKENS` it takes a model that it does not know to have a window of
a million tokens, and never compacts a conversation before the server refuses it as too long. It
keeps `CLAUDE_CODE_MAX_OUTPUT_TOKENS` of the window free for answers, 32000 unless you say less:
with a window of 32768 it would do nothing but compact. Give it a window of 32768 at least. Web
search and other tools that Anthropic's servers run are left out.""",
    ),
    Agent(
        "codex",
        "Codex",
        "codex",
        "npm install -g @openai/codex",
        codex_addition,
        codex,
        version="0.171.0",
        first_prompt=8_000,
        starts_from_file=True,
        note="""\
The profile is a file of its own, laid over your `config.toml`, which stays as it is (Codex 0.134 or
newer; older ones take the same lines as `[profiles.mlxd]`). That the model's metadata was not
found is harmless. With `supports_websockets = true` in the provider's table Codex sends most of its
prompt when it starts, and it is read while you type. Without any file, and without keys:
`CODEX_OSS_BASE_URL=http://127.0.0.1:8484/v1 codex --oss --local-provider lmstudio -m qwen`.""",
    ),
)
