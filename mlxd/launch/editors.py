"""Editors: nothing of them is started; what their configuration takes is shown, or put there."""

from mlxd.launch.agent import KEY, Addition, Agent, Command, Endpoint, Places, as_json
from mlxd.launch.edit import NAME
from mlxd.launch.json_entry import JsonEntry


def zed_addition(to: Endpoint, at: Places) -> Addition:
    can = {"tools": True, "images": False, "parallel_tool_calls": True, "prompt_cache_key": True}
    model = {
        "name": to.model,
        "max_tokens": to.window,
        "max_output_tokens": to.answer,
        "capabilities": can,
    }
    provider = {"api_url": to.v1, "available_models": [model]}
    block = as_json({"language_models": {"openai_compatible": {NAME: provider}}})
    return Addition(at.config / "zed/settings.json", block, Command(("zed",), {KEY: to.secret}))


def vscode_addition(to: Endpoint, at: Places) -> Addition:
    model = {
        "id": to.model,
        "name": to.model,
        "url": f"{to.v1}/chat/completions",
        "toolCalling": True,
        "vision": False,
        "contextWindow": to.window,
        "maxOutputTokens": to.answer,
    }
    provider = {
        "name": NAME,
        "vendor": "customendpoint",
        "apiType": "chat-completions",
        "models": [model],
    }
    return Addition(
        at.app_data / "Code/User/chatLanguageModels.json",
        as_json([provider]),
        Command(("code",)),
        JsonEntry((), provider, item=True),
    )


AGENTS = (
    Agent(
        "zed",
        "Zed",
        "zed",
        "brew install --cask zed",
        zed_addition,
        note="""\
Its settings are full of comments, so that the lines are only shown. The key comes from the variable
that Zed makes of the provider's name.""",
    ),
    Agent(
        "vscode",
        "VS Code",
        "code",
        "brew install --cask visual-studio-code",
        vscode_addition,
        also=("code",),
        note="""\
Version 1.122 or newer; nobody has to sign in. A key goes in by its own dialog, and
`chat.byokUtilityModelDefault` takes the model for titles.""",
    ),
)
