"""The dialects there are, and where each is made: by a function of the settings.

They are named as text, so that reading a configuration imports none of them. The first enabled one
answers on paths that belong to nobody.
"""

DIALECTS: dict[str, str] = {
    "openai_chat": "mlxd.api.openai.chat.dialect:build",
    "openai_responses": "mlxd.api.openai.responses.dialect:build",
    "anthropic": "mlxd.api.anthropic.dialect:build",
    "azure": "mlxd.api.azure.dialect:build",
    "ollama": "mlxd.api.ollama.dialect:build",
}
