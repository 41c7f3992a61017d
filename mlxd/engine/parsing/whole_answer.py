"""The parts of an answer whose text is there already."""

from collections.abc import Sequence

from mlxd.engine.interface import Markup
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.events import BlockEnd, Finished, FinishReason, Timings, Usage
from mlxd.messages import GenerateRequest, OutputPart, Tool


def read_answer(
    text: str,
    markup: Markup,
    tools: Sequence[Tool],
    *,
    opens_reasoning: bool = False,
    complete: bool = True,
) -> list[OutputPart] | None:
    """The parts of `text`; None where something had to be repaired, dropped or guessed.

    `complete` says that the model ended it by itself.
    """
    request = GenerateRequest("answer", "", (), tools=tuple(tools))
    builder = BlockBuilder(markup, request, opens_reasoning=opens_reasoning, mode="separate")
    events = builder.text(text, tokens=1)
    reason: FinishReason = "stop" if complete else "length"
    events += builder.finish(reason, stop_sequence=None, usage=Usage(), timings=Timings())
    finished = events[-1]
    if isinstance(finished, Finished) and finished.notes:
        return None
    return [event.part for event in events if isinstance(event, BlockEnd)]
