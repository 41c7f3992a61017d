"""What is wanted of thinking and can't be done is named by the field that says it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlxd.api.app import create_app
from mlxd.config.settings import Settings
from mlxd.engine.interface import Generation, PartlyEnforced
from mlxd.engine.scripted.engine import ScriptedEngine
from mlxd.messages import GenerateRequest
from tests.api.support import CHAT, DEMO, FIXED, MESSAGES, RESPONSES, Front
from tests.memory_store import MemoryStore
from tests.scripts import SCRIPTS

HELLO = [{"role": "user", "content": "Hello"}]
SWITCH = {"enable_thinking": "false"}


class Unheeding(ScriptedEngine):
    """An engine with a model whose thinking nobody can steer."""

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        async with super().generate(request) as playback:
            assert isinstance(playback, PartlyEnforced)
            wishes = [
                name
                for name in ("enabled", "effort", "budget")
                if getattr(request.reasoning, name) is not None
            ]
            playback.left_out = tuple(f"reasoning.{name}" for name in wishes)
            yield playback


WISHES: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"reasoning_effort": "none"}, "reasoning_effort"),
    (
        CHAT,
        {"enable_thinking": False, "reasoning_effort": "none"},
        "enable_thinking,reasoning_effort",
    ),
    (CHAT, {"chat_template_kwargs": SWITCH}, "chat_template_kwargs.enable_thinking"),
    (CHAT, {"thinking": {"type": "disabled"}}, "thinking"),
    (
        CHAT,
        {"thinking": {"type": "enabled", "budget_tokens": 9}},
        "thinking,thinking.budget_tokens",
    ),
    (CHAT, {"thinking_budget": 0}, "thinking_budget"),
    (CHAT, {}, ""),
    (RESPONSES, {"reasoning": {"effort": "none"}}, "reasoning.effort"),
    (RESPONSES, {"enable_thinking": False}, "enable_thinking"),
    (RESPONSES, {}, ""),
    (MESSAGES, {"thinking": {"type": "disabled"}}, "thinking"),
    (MESSAGES, {}, ""),
]


@pytest.mark.parametrize(("path", "wish", "named"), WISHES)
async def test_a_wish_is_named_where_the_caller_wrote_it(
    path: str, wish: dict[str, Any], named: str
) -> None:
    engine, store = Unheeding(lambda _: SCRIPTS["text"], models=(DEMO,)), MemoryStore()
    front = Front(create_app(Settings(), engine, store=store, tuning=FIXED), engine, store)
    words = {"input": "Hello"} if path == RESPONSES else {"messages": HELLO, "max_tokens": 9}
    response = await front.post({"model": "demo", **words, **wish}, path)
    assert response.status_code == 200, await response.get_data()
    assert response.headers.get("x-mlxd-ignored", "") == named
