"""The measurement of agents sends what agents send, and counts what a server reads twice."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.agent import AGENTS, Measured, conversations, figures, until_restart
from bench.client import FIRST_PIECE, Reply, read_reply
from bench.conversations import CALLED, Agent, answer_of
from bench.plan import Plan
from bench.processes import MLXD, Server, seconds_of, serving
from bench.tool_template import TEMPLATE, with_tools
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.process

CALL_BEGINS = (
    b'{"index":0,"id":"call_1","type":"function","function":{"name":"read_file","arguments":""}}'
)
CALL_GOES_ON = b'{"index":0,"function":{"arguments":"{\\"path\\": 1}"}}'


def chunk(delta: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{%s}}]}\n\n' % delta


def called() -> dict[str, object]:
    return answer_of(
        chunk(b'"tool_calls":[%s]' % CALL_BEGINS) + chunk(b'"tool_calls":[%s]' % CALL_GOES_ON)
    )


def test_each_request_goes_on_from_the_one_before() -> None:
    agent, before = Agent("a project", 1), list[object]()
    text: dict[str, object] = {"role": "assistant", "content": "Found it."}
    for answer in (called(), text, called()):
        messages = agent.body(8)["messages"]
        assert isinstance(messages, list)
        assert messages[: len(before)] == before
        before = list(messages)
        agent.took(answer, prompt=10, completion=3)
    roles = [message["role"] for message in agent.messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user", *roles[2:4]]
    assert agent.known == 13


def test_every_other_answer_has_to_be_a_call() -> None:
    agent = Agent("a project", 1)
    forced = []
    for _ in range(4):
        forced.append(agent.body(8)["tool_choice"] != "auto")
        agent.took({"role": "assistant", "content": ""}, prompt=1, completion=1)
    assert forced == [True, False, True, False]


def test_an_answer_is_kept_as_it_came() -> None:
    text = chunk(b'"role":"assistant","content":""') + chunk(b'"content":"Hi, "') + b"data: [DONE]"
    assert answer_of(text + b"\n") == {"role": "assistant", "content": "Hi, "}
    (call,) = json.loads(json.dumps(called()["tool_calls"]))
    assert call["id"] == "call_1"
    assert call["function"] == {"name": "read_file", "arguments": '{"path": 1}'}


def test_the_first_piece_of_an_answer_may_be_a_call() -> None:
    usage = b'data: {"usage":{"prompt_tokens":9,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
    call = chunk(b'"tool_calls":[%s]' % CALL_BEGINS)
    reply = read_reply([(0.1, chunk(b'"content":""')), (0.2, call), (0.3, usage)], FIRST_PIECE)
    assert (reply.first_text, reply.prompt, reply.tokens) == (0.2, 9, 7)


def test_all_turns_of_all_agents_are_measured_over_a_restart(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(scripted_agent(tmp_path))

        def start() -> contextlib.AbstractContextManager[Server]:
            return contextlib.nullcontext(server)

        plan = Plan(tmp_path, rounds=1, tokens=8, turns=4)
        measured = conversations(start, plan, "a project")
    assert [len(turn) for turn in measured.replies] == [AGENTS] * 4
    assert len(measured.again) == 3 * AGENTS
    # The scripted engine counts no answer's words as known, and a prompt but for its last word.
    assert all(reply.cached > 1000 for turn in measured.replies[1:] for reply in turn)
    assert f'"name": "{CALLED}"' in json.dumps(measured.second_turn[-2])
    assert len(list(figures([(measured, measured)], [(1.0, 1.0)]))) == 6


@contextlib.contextmanager
def scripted_agent(folder: Path) -> Iterator[Server]:
    config = folder / "mlxd.toml"
    config.write_text("", encoding="utf-8")
    command = [*MLXD, "serve", "--config", str(config), "--scripted", "agent"]
    with serving("mlxd", command, {}) as server:
        yield server


def test_what_a_restart_took_away_is_not_read_again_by_the_other_turns() -> None:
    reply = Reply(first_text=1.0, seconds=2.0, tokens=3, cached=4)
    again = [1, 2, 3, *[900] * AGENTS, 4, 5, 6]
    measured = Measured(replies=[[reply] * AGENTS] * 4, again=again)
    assert until_restart(measured) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [("00:01:05", 65.0), ("1-00:00:02", 86402.0), ("12:03.25", 723.25), ("0:00.00", 0.0)],
)
def test_processor_times_are_read_as_each_system_shows_them(shown: str, seconds: float) -> None:
    assert seconds_of(shown) == seconds


def test_a_template_without_tools_is_replaced_and_no_other(tmp_path: Path) -> None:
    without = make_tiny_model(tmp_path / "without", template="{{ messages[0].content }}")
    with with_tools(without) as folder:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        assert config["chat_template"] == TEMPLATE
        assert (folder / "model.safetensors").exists()
    own = make_tiny_model(tmp_path / "with")
    with with_tools(own) as folder:
        assert folder == own
