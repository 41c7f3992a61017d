"""What Ollama's bodies say to the engine, and what of them is ignored or refused."""

import base64
from typing import Any

import pytest

from mlxd.messages import (
    GenerateRequest,
    Image,
    JsonOutput,
    JsonSchemaOutput,
    Message,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    TextOutput,
    Tool,
    ToolCall,
    ToolResult,
)
from tests.api.support import HELLO, OLLAMA_CHAT, PNG, bytes_of, front
from tests.scripts import SCRIPTS

Json = dict[str, Any]
GENERATE = "/api/generate"
SERVER = front(*SCRIPTS["text"])
IMAGE = base64.b64encode(PNG).decode()
LOOK: Json = {"function": {"name": "look", "arguments": {"at": 1}}}
HEAR: Json = {"id": "mine", "type": "function", "function": {"name": "hear", "arguments": "{}"}}


async def heard(path: str = OLLAMA_CHAT, **fields: Any) -> GenerateRequest:
    """The one request that the engine gets."""
    SERVER.heard()
    body: Json = {"model": "demo"} | ({"messages": HELLO} if path == OLLAMA_CHAT else {})
    response = await SERVER.post(body | fields, path)
    assert response.status_code == 200, await bytes_of(response)
    (request,) = SERVER.heard()
    return request


async def ignored(path: str = OLLAMA_CHAT, **fields: Any) -> str:
    body: Json = {"model": "demo"} | ({"messages": HELLO} if path == OLLAMA_CHAT else {})
    response = await SERVER.post(body | fields, path)
    assert response.status_code == 200, await bytes_of(response)
    return response.headers.get("x-mlxd-ignored", "")


async def refusal(path: str = OLLAMA_CHAT, **fields: Any) -> str:
    """The text of a 400."""
    body: Json = {"model": "demo"} | ({"messages": HELLO} if path == OLLAMA_CHAT else {})
    response = await SERVER.post(body | fields, path)
    assert response.status_code == 400, await bytes_of(response)
    error: str = (await response.get_json())["error"]
    return error


async def test_options_are_sampling_under_other_names() -> None:
    request = await heard(
        options={
            **{"temperature": 0, "top_k": 40.0, "top_p": 0.5, "min_p": 0.1, "seed": 7},
            **{"num_predict": 9, "repeat_penalty": 1.1, "presence_penalty": 1, "stop": "END"},
        }
    )
    assert request.sampling == Sampling(
        temperature=0,
        top_k=40,
        top_p=0.5,
        min_p=0.1,
        seed=7,
        repetition_penalty=1.1,
        presence_penalty=1,
    )
    assert (request.max_tokens, request.stop) == (9, ("END",))


async def test_numbers_that_say_no_limit_or_no_choice_are_none() -> None:
    request = await heard(options={"num_predict": -1, "seed": -1, "top_k": -1, "repeat_last_n": 0})
    assert request.max_tokens == 2**31 - 1
    assert request.sampling == Sampling(top_k=0, repetition_penalty=1.0)
    assert (await heard(options={"num_predict": -2})).max_tokens == 2**31 - 1
    assert (await heard()).max_tokens is None


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"options": {"num_ctx": 4096, "mirostat": 1}}, "options.num_ctx,options.mirostat"),
        ({"options": {"repeat_last_n": 64}}, "options.repeat_last_n"),
        ({"keep_alive": "5m"}, "keep_alive"),
        ({"keep_alive": 10**400}, "keep_alive"),
        ({"keep_alive": "1h30.5m"}, "keep_alive"),
        ({"keep_alive": -1, "shift": True}, "shift"),
        ({"keep_alive": "-1m", "shift": False, "options": None, "format": ""}, ""),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools.web_search"),
    ],
)
async def test_what_changes_nothing_is_named(fields: Json, names: str) -> None:
    assert await ignored(**fields) == names


@pytest.mark.parametrize(
    ("think", "options"),
    [
        (None, ReasoningOptions()),
        (True, ReasoningOptions(enabled=True)),
        (False, ReasoningOptions(enabled=False)),
        ("max", ReasoningOptions(enabled=True, effort="max")),
    ],
)
async def test_thinking_left_out_is_the_models_own_way(
    think: object, options: ReasoningOptions
) -> None:
    assert (await heard(think=think)).reasoning == options


async def test_a_format_is_json_or_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert (await heard(format=None)).output == TextOutput()
    assert (await heard(format="json")).output == JsonOutput()
    assert isinstance((await heard(format=schema)).output, JsonSchemaOutput)
    assert 'format: should be "json" or a JSON schema object' in await refusal(format="yaml")


async def test_tools_are_functions() -> None:
    parameters = {"type": "object", "properties": {}}
    function = {"name": "look", "description": "d", "parameters": parameters}
    request = await heard(tools=[{"type": "function", "function": function}])
    assert request.tools == (Tool("look", "d", '{"type":"object","properties":{}}'),)
    assert "tools[0].function is required" in await refusal(tools=[{"type": "function"}])


async def test_results_belong_to_calls_by_id_by_name_or_in_order() -> None:
    calls = [HEAR, LOOK, {"function": {"name": "look"}}]
    results = [
        {"role": "tool", "content": "2nd", "tool_name": "look"},
        {"role": "tool", "content": "1st", "tool_call_id": "mine"},
        {"role": "tool", "content": "3rd"},
        {"role": "tool", "content": "of nobody"},
    ]
    answer = {"role": "Assistant", "content": None, "thinking": "hm", "tool_calls": calls}
    request = await heard(messages=[*HELLO, answer, *results])
    assert request.messages[1:] == (
        Message(
            "assistant",
            (
                Reasoning("hm"),
                ToolCall("mine", "hear", "{}"),
                ToolCall("call_1_1", "look", '{"at":1}'),
                ToolCall("call_1_2", "look", "{}"),
            ),
        ),
        *(
            Message("tool", (ToolResult(call, (Text(text),)),))
            for call, text in [
                *(("call_1_1", "2nd"), ("mine", "1st"), ("call_1_2", "3rd")),
                ("call_5_0", "of nobody"),
            ]
        ),
    )


async def test_images_are_seen_where_they_are_new_and_passed_over_where_they_are_old() -> None:
    old: Json = {"role": "user", "content": "See", "images": [IMAGE]}
    request = await heard(messages=[old, {"role": "assistant", "content": "Yes"}, *HELLO])
    assert isinstance(request.messages[0].parts[1], Text)
    assert await ignored(messages=[old, *HELLO]) == "messages[0].images[0]"
    new = (await heard(messages=[old])).messages[0].parts
    assert new == (Text("See"), Image(PNG, "image/png", "messages.0.images.0"))
    empty = await heard(messages=[{"role": "user", "content": "See", "images": []}])
    assert empty.messages[0].parts == (Text("See"),)
    why = await refusal(messages=[{"role": "user", "content": "", "images": ["x"]}])
    assert why.startswith("messages[0].images[0]: ")


async def test_a_prompt_is_a_turn_behind_the_systems() -> None:
    request = await heard(GENERATE, prompt="Hello", system="Be brief.")
    assert request.messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hello"),)),
    )
    assert await ignored(GENERATE, prompt="Hello", context=[1, 2]) == "context"


@pytest.mark.parametrize(
    ("path", "fields", "text"),
    [
        (OLLAMA_CHAT, {"model": ""}, "model is required"),
        (GENERATE, {"model": None}, "model is required"),
        (OLLAMA_CHAT, {"messages": [{"role": "bard"}]}, "messages[0].role: should be 'system', "),
        (OLLAMA_CHAT, {"messages": "Hi"}, "messages: should be a valid list, got "),
        (OLLAMA_CHAT, {"options": [1]}, "options: should be an object, got [1]"),
        (OLLAMA_CHAT, {"options": {"temperature": "hot"}}, "options.temperature: "),
        (OLLAMA_CHAT, {"options": {"top_k": 0.5}}, "options.top_k: "),
        (OLLAMA_CHAT, {"options": {"seed": 2**70}}, "options.seed: "),
        (OLLAMA_CHAT, {"think": "hard"}, "think: should be true, false, "),
        (OLLAMA_CHAT, {"keep_alive": "soon"}, "keep_alive: should be a number of seconds"),
        (OLLAMA_CHAT, {"keep_alive": "5m3"}, "keep_alive: should be a number of seconds"),
        (OLLAMA_CHAT, {"keep_alive": "1" * 1_000_000}, "keep_alive: should be a number of seconds"),
        (OLLAMA_CHAT, {"tools": [1]}, "tools[0]: should be an object, got 1"),
        (OLLAMA_CHAT, {"top_logprobs": 21}, "top_logprobs: "),
        (GENERATE, {"prompt": "x", "template": "{{ .Prompt }}"}, "template: "),
        (
            GENERATE,
            {"prompt": "x", "raw": True, "system": "s"},
            "raw mode does not support template, system, or context",
        ),
        ("/api/embed", {"input": "x"}, '"demo" does not support embeddings'),
        ("/api/show", {"model": None}, "model is required"),
    ],
)
async def test_errors_are_one_text_that_names_the_field(path: str, fields: Json, text: str) -> None:
    assert (await refusal(path, **fields)).startswith(text)


async def test_a_body_that_is_none_has_its_own_text() -> None:
    response = await SERVER.send(b"", OLLAMA_CHAT)
    assert (response.status_code, await response.get_json()) == (
        400,
        {"error": "missing request body"},
    )


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
async def test_a_program_may_call_its_body_anything_and_a_browser_may_not(kind: str) -> None:
    body = b'{"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}'
    plain = await SERVER.send(body, OLLAMA_CHAT, content_type=kind)
    assert plain.status_code == 200
    for name, value in (("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")):
        response = await SERVER.send(body, OLLAMA_CHAT, **{"content_type": kind, name: value})
        assert response.status_code == 400
        assert "Content-Type" in (await response.get_json())["error"]
