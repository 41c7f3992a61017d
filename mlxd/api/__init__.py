"""HTTP: the dialects and the one path from request to response."""

from mlxd.api.anthropic.dialect import Anthropic
from mlxd.api.azure.dialect import Azure
from mlxd.api.dialect import Dialect
from mlxd.api.openai.chat.dialect import OpenAIChat
from mlxd.api.openai.responses.dialect import OpenAIResponses
from mlxd.config.settings import Settings


def dialects_for(settings: Settings) -> tuple[Dialect, ...]:
    """Every dialect there is, set up as configured; adding one is a file and an entry here."""
    azure = settings.azure
    responses = OpenAIResponses(settings.responses.reasoning_events)
    return (
        OpenAIChat(),
        responses,
        Anthropic(),
        Azure(azure.deployments, responses=responses, filter_results=azure.content_filter_results),
    )


DIALECTS = dialects_for(Settings())
"""Every dialect with its defaults."""
