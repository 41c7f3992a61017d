"""mlx-lm's `BatchGenerator` with nothing around it: runs come in as JSON lines on stdin.

A line is `{"chats": [...], "max_tokens": n}`, its answer `{"tokens": n, "seconds": s}`. The chat
template and tokenising are part of the time, as they are of a server's.
"""

import json
import sys
import time
from typing import Any

from mlx_lm import load
from mlx_lm.generate import BatchGenerator

from bench.prompts import Chat


def run(model: Any, tokenizer: Any, chats: list[Chat], max_tokens: int) -> dict[str, float]:
    """Generate the answers to all `chats` together."""
    started = time.perf_counter()
    prompts = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        for chat in chats
    ]
    ends = [[token] for token in tokenizer.eos_token_ids]
    generator = BatchGenerator(model, stop_tokens=ends, max_tokens=max_tokens)
    generator.insert(prompts)
    tokens = 0
    while responses := generator.next_generated():
        tokens += len(responses)
    generator.close()
    return {"tokens": tokens, "seconds": time.perf_counter() - started}


def main() -> None:
    model, tokenizer, *_ = load(sys.argv[1])
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        answer = run(model, tokenizer, **json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
