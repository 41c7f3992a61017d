"""The line below the prompt: how the answer stands, in figures."""

from mlxd.tui.chat.answer import StreamedAnswer
from mlxd.tui.chat.safe_text import count, rate, seconds

ENDINGS = {"stopped": "stopped", "incomplete": "cut", "failed": "failed"}


def figures(answer: StreamedAnswer, now: float) -> str:
    """State, speed and time to the first token; what is counted by pieces is marked with `~`."""
    if answer.state == "waiting":
        return f"waiting, {seconds(max(0.0, now - answer.sent_at))}"
    if not answer.ended:
        thinking = bool(answer.parts) and answer.parts[-1].kind == "reasoning"
        shown = ["thinking" if thinking else "answering", seconds(now - answer.sent_at)]
    else:
        ending = ENDINGS.get(answer.state)
        shown = [ending] if ending else []
        shown += [count(answer.tokens, "token")] if answer.tokens else []
    if answer.rate:
        shown.append(f"{'' if answer.tokens else '~'}{rate(answer.rate)}")
    if answer.first is not None:
        shown.append(f"first token {seconds(answer.first)}")
    if answer.ended and answer.prompt_tokens:
        shown.append(f"prompt {count(answer.prompt_tokens, 'token')}")
    return ", ".join(shown)
