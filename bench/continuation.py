"""New tokens behind a context whose KV cache is there already, by mlx-lm alone in a process.

As a program: a line of stdin is `{"messages": [...], "tools": [...], "prompt": n, "known": n}`, its
answer `{"seconds": s, "bytes": n}`. The time is that of all tokens but the `known` ones until the
first token of the answer; `bytes` is the KV cache of a token.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.conversations import tools
from bench.processes import WITH_BLAS, LineProcess, line_process

PIECE = 512
"""Tokens of the context that are computed at once."""
TIMES = 3
"""The fastest of so many counts: nothing is measured beside it that could hide a pause."""


class Continuation:
    """The process of this program."""

    def __init__(self, process: LineProcess) -> None:
        self._process = process

    def run(
        self, messages: list[dict[str, object]], *, prompt: int, known: int
    ) -> tuple[float, float]:
        """Milliseconds to the first token behind `known` tokens of `prompt`; bytes of a token."""
        question = {"messages": messages, "tools": tools(), "prompt": prompt, "known": known}
        answer = self._process.ask(question)
        return 1000 * answer["seconds"], answer["bytes"]


@contextmanager
def continuation(model: Path) -> Iterator[Continuation]:
    """A `Continuation` with its model loaded."""
    with line_process([*WITH_BLAS, "bench.continuation", str(model)]) as process:
        yield Continuation(process)


def measure(model: Any, tokenizer: Any, question: dict[str, Any]) -> dict[str, float]:
    """Compute what is known, then time the rest."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

    messages = [_read(message) for message in question["messages"]]
    ids = tokenizer.apply_chat_template(
        messages, tools=question["tools"], add_generation_prompt=True, return_dict=False
    )
    if len(ids) != question["prompt"]:
        raise RuntimeError(f"mlxd's prompt has {question['prompt']} tokens, mlx-lm's {len(ids)}")
    cache, known = make_prompt_cache(model), question["known"]
    for start in range(0, known, PIECE):
        model(mx.array([ids[start : min(start + PIECE, known)]]), cache=cache)
        mx.eval([layer.state for layer in cache])
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache) / cache[0].keys.shape[2]
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        mx.eval(mx.argmax(model(mx.array([ids[known:]]), cache=cache)[:, -1], axis=-1))
        times.append(time.perf_counter() - begun)
        trim_prompt_cache(cache, len(ids) - known)
    return {"seconds": min(times), "bytes": size}


def _read(message: dict[str, Any]) -> dict[str, Any]:
    """The message as templates want it: with arguments that are objects."""
    calls = [
        {**call, "function": {**call["function"], "arguments": _arguments(call)}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def _arguments(call: dict[str, Any]) -> Any:
    return json.loads(call["function"]["arguments"])


def main() -> None:
    from mlx_lm import load

    model, tokenizer, *_ = load(sys.argv[1])
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(measure(model, tokenizer, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
