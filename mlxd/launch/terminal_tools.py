"""Programs for the terminal that talk to models, agents and others, and goose."""

import json
from typing import Any

from mlxd.launch.agent import KEY, Addition, Agent, Command, Endpoint, Places, as_json
from mlxd.launch.edit import NAME, WholeFile
from mlxd.launch.list_entry import TomlEntry, YamlEntry


def aider(to: Endpoint, at: Places) -> Command:
    file = at.own / "models.json"
    known = {
        "max_input_tokens": to.window,
        "max_output_tokens": to.answer,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    words = ("aider", "--model", f"openai/{to.model}", "--no-show-model-warnings")
    # Flags and variables of its own beat its configuration file, the vendor's do not.
    return Command(
        (*words, "--openai-api-base", to.v1, "--model-metadata-file", str(file)),
        {
            "OPENAI_API_BASE": to.v1,
            **dict.fromkeys(("OPENAI_API_KEY", "AIDER_OPENAI_API_KEY"), to.secret),
        },
        files={file: as_json({f"openai/{to.model}": known})},
    )


def aider_addition(to: Endpoint, at: Places) -> Addition:
    block = f"model: {json.dumps(f'openai/{to.model}')}\nopenai-api-base: {json.dumps(to.v1)}\n"
    use = Command(("aider", "--no-show-model-warnings"), {"OPENAI_API_KEY": to.secret})
    return Addition(at.home / ".aider.conf.yml", block, use)


def llm(to: Endpoint, at: Places) -> Command:
    words = ("llm", "openai", "endpoint", to.v1, "-m", to.model)
    if not to.key:
        return Command(words)
    # It takes a key from its command line or from its folder, never from the environment.
    keys = {at.own / "keys.json": as_json({NAME: to.key})}
    return Command((*words, "--key", NAME), {"LLM_USER_PATH": str(at.own)}, files=keys)


def llm_addition(to: Endpoint, at: Places) -> Addition:
    model: dict[str, Any] = {
        "model_id": f"{NAME}/{to.model}",
        "model_name": to.model,
        "api_base": to.v1,
        "supports_tools": True,
        "supports_schema": True,
        **({"api_key_name": NAME} if to.key else {}),
    }
    key = {"OPENAI_API_KEY": to.key} if to.key else {}
    edit = YamlEntry("model_id", model)
    folder = at.folder("LLM_USER_PATH", str(at.app_data / "io.datasette.llm"))
    use = Command(("llm", "-m", f"{NAME}/{to.model}"), key)
    return Addition(folder / "extra-openai-models.yaml", edit.block, use, edit)


def gptme(to: Endpoint, at: Places) -> Command:
    return Command(
        ("gptme", "-m", f"local/{to.model}", "--tool-format", "tool"),
        {"OPENAI_BASE_URL": to.v1, "OPENAI_API_KEY": to.secret},
    )


def gptme_addition(to: Endpoint, at: Places) -> Addition:
    provider = {
        "name": NAME,
        "base_url": to.v1,
        "api_key_env": KEY,
        "default_model": to.model,
    }
    edit = TomlEntry("providers", provider)
    use = Command(("gptme", "-m", f"{NAME}/{to.model}", "--tool-format", "tool"), {KEY: to.secret})
    return Addition(at.config / "gptme/config.toml", edit.block, use, edit)


def goose(to: Endpoint, at: Places) -> Command:
    return Command(
        ("goose", "session"),
        {
            "GOOSE_PROVIDER": "openai",
            "GOOSE_MODEL": to.model,
            "OPENAI_HOST": to.url,
            "OPENAI_BASE_PATH": "v1/chat/completions",
            "OPENAI_API_KEY": to.secret,
        },
    )


def goose_addition(to: Endpoint, at: Places) -> Addition:
    text = as_json(
        {
            "name": NAME,
            "display_name": NAME,
            "engine": "openai",
            "base_url": f"{to.v1}/chat/completions",
            "api_key_env": KEY,
            "models": [{"name": to.model, "context_limit": to.window}],
            "supports_streaming": True,
        }
    )
    variables = {"GOOSE_PROVIDER": NAME, "GOOSE_MODEL": to.model, KEY: to.secret}
    file = at.config / "goose/custom_providers/mlxd.json"
    return Addition(file, text, Command(("goose", "session"), variables), WholeFile(text))


AGENTS = (
    Agent(
        "aider",
        "aider",
        "aider",
        "uv tool install aider-chat",
        aider_addition,
        aider,
        version="0.86.2",
        first_prompt=600,
    ),
    Agent(
        "llm",
        "llm",
        "llm",
        "uv tool install llm",
        llm_addition,
        llm,
        version="0.36",
        note="""\
`mlxd launch llm -- "what to ask"`; with `-- --chat` it goes on. The model that `--config-only` adds
is kept in its log as any other, and takes `--responses` for nothing.""",
    ),
    Agent(
        "gptme",
        "gptme",
        "gptme",
        "uv tool install gptme",
        gptme_addition,
        gptme,
        version="0.35.1",
    ),
    Agent(
        "goose",
        "goose",
        "goose",
        "brew install block-goose-cli",
        goose_addition,
        goose,
    ),
)
