"""HTTP: the dialects and the one path from request to response."""

from mlxd.api.anthropic import Anthropic
from mlxd.api.dialect import Dialect
from mlxd.api.openai_chat import OpenAIChat

DIALECTS: tuple[Dialect, ...] = (OpenAIChat(), Anthropic())
"""Every dialect there is; adding one is a file and an entry here."""
