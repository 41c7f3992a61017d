"""HTTP: the dialects and the one path from request to response."""

from mlxd.api.anthropic import Anthropic
from mlxd.api.azure import Azure
from mlxd.api.dialect import Dialect
from mlxd.api.openai_chat import OpenAIChat
from mlxd.api.openai_responses import OpenAIResponses
from mlxd.config import Settings


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
