"""All that goes over the wire is what the vendors' own clients have types for."""

from typing import Any

import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import ValidationError

from mlxd.api.openai.chat.wire import HARMLESS, HONOURED
from tests.api.shapes import OURS, check_shape, unknown_fields
from tests.api.wire_samples import SAMPLES

pytestmark = pytest.mark.client

MODEL: dict[str, Any] = {"id": "a", "created": 1, "object": "model", "owned_by": "me"}


@pytest.mark.parametrize(
    "wrong",
    [{"created": "1"}, {"created": 1.5}, {"object": "models"}, {"id": None}, {"colour": "red"}],
    ids=str,
)
def test_a_body_of_another_shape_is_noticed(wrong: dict[str, Any]) -> None:
    check_shape(Model, MODEL)
    for changed in (MODEL | wrong, {key: MODEL[key] for key in MODEL if key not in wrong}):
        if changed != MODEL:
            with pytest.raises((ValidationError, AssertionError)):
                check_shape(list[Model], [changed])


async def test_a_field_too_many_is_noticed_at_any_depth() -> None:
    (whole, *_) = await SAMPLES["openai_chat-logprobs"]()
    whole.value["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["colour"] = "red"
    with pytest.raises(AssertionError, match="colour"):
        check_shape(ChatCompletion, whole.value)


@pytest.mark.parametrize("name", SAMPLES)
async def test_everything_sent_is_what_the_vendors_client_reads(name: str) -> None:
    for sample in await SAMPLES[name]():
        check_shape(sample.shape, sample.value)


async def test_no_field_is_excused_that_is_not_sent() -> None:
    sent: set[tuple[str, str]] = set()
    for samples in SAMPLES.values():
        for sample in await samples():
            sent |= unknown_fields(sample.shape, sample.value)
    assert OURS.keys() == sent


def test_every_field_of_chat_completions_is_honoured_or_harmless() -> None:
    known = set(CompletionCreateParamsStreaming.__annotations__)
    assert known - HONOURED - HARMLESS == set()
    assert known >= HARMLESS
    assert not HONOURED & HARMLESS
