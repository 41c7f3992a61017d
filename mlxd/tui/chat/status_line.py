"""The line below the prompt: how the answer stands, in figures."""

from mlxd.tui.chat.answer import Answer
from mlxd.tui.chat.safe_text import count, rate, seconds

ENDINGS = {"stopped": "stopped", "incomplete": "cut", "failed": "failed"}


def figures(answer: Answer, now: float) -> str:
    """State, speed and time to the first token; what is counted by pieces is marked with `~`."""
    if answer.state == "waiting":
        return f"waiting, {seconds(max(0.0, now - answer.asked))}"
    if not answer.ended:
        thinking = bool(answer.blocks) and answer.blocks[-1].kind == "reasoning"
        told = ["thinking" if thinking else "answering", seconds(now - answer.asked)]
    else:
        ending = ENDINGS.get(answer.state)
        told = [ending] if ending else []
        told += [count(answer.tokens, "token")] if answer.tokens else []
    if answer.rate:
        told.append(f"{'' if answer.tokens else '~'}{rate(answer.rate)}")
    if answer.first is not None:
        told.append(f"first token {seconds(answer.first)}")
    if answer.ended and answer.prompt_tokens:
        told.append(f"prompt {count(answer.prompt_tokens, 'token')}")
    return ", ".join(told)
