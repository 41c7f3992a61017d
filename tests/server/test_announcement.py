"""What `mlxd serve` proposes to try works, whichever APIs are on."""

import shlex
from typing import Any

import pytest

from mlxd.api.app import create_app
from mlxd.config.settings import Settings
from mlxd.server.announcement import announcement
from mlxd.server.engines import build_engine
from tests.memory_store import MemoryStore

MODELS = {"demo": {"source": "org/demo"}}
CASES: tuple[tuple[Any, dict[str, Any], str], ...] = (
    (("openai_chat", "anthropic"), {}, "/v1/chat/completions"),
    (("openai_responses",), {}, "/v1/responses"),
    (("anthropic", "openai_responses"), {}, "/v1/responses"),
    (("anthropic",), {}, "/v1/messages"),
    (("ollama",), {}, "/api/chat"),
    (("azure",), {}, "/openai/deployments/demo/chat/completions"),
    (("azure",), {"a:b/c": "demo"}, "/openai/deployments/a%3Ab/c/chat/completions"),
)


@pytest.mark.parametrize(("dialects", "deployments", "path"), CASES)
async def test_the_line_to_try_is_that_of_the_first_dialect_and_is_answered(
    dialects: tuple[str, ...], deployments: dict[str, str], path: str
) -> None:
    settings = Settings.model_validate(
        {"models": MODELS, "dialects": dialects, "azure": {"deployments": deployments}}
    )
    engine = build_engine(settings, "agent")
    said = announcement(
        "http://127.0.0.1:8484", settings, engine.models(), unusable={}, store="", config_file=None
    )
    command = said[said.index("curl ") :].replace("\\\n", " ")
    _, url, _, field, _, body, *_ = shlex.split(command.partition("\nCtrl-C")[0])
    assert url.removeprefix("http://127.0.0.1:8484") == path
    client = create_app(settings, engine, store=MemoryStore()).test_client()
    name, _, value = field.partition(": ")
    answer = await client.post(path, data=body, headers={name: value})
    assert answer.status_code == 200, await answer.get_data()
