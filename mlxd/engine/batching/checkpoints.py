"""Which checkpoints of a conversation are kept: positions that a prompt can go on from. Pure.

Where a cache can't be cut, a prompt goes on from a checkpoint or begins anew. Each takes memory: a
state of every recurrent layer, the tokens that every sliding window looks back.
"""

from collections.abc import Sequence

CHECKPOINTS = 8
"""The most checkpoints of one conversation."""
WINDOW_SHARE = 0.25
"""What windows of older checkpoints may take, as a share of one cache of the whole conversation."""


def worth_keeping(ends: Sequence[int], window: int, tokens: float) -> set[int]:
    """Of the checkpoints `ends`, rising, those that are likely to be used.

    These are the newest two, as a prompt and its answer, and the first, the end of the system
    prompt; of the others fewer and fewer the farther back they are. The windows of all but the
    first, each of `window` tokens, hold at most `tokens` together.
    """
    newest = ends[-1]
    wanted = [newest, *ends[-2:-1]]
    distance = 1
    for end in reversed(ends[:-2]):
        if newest - end >= distance:
            wanted.append(end)
            distance = 2 * (newest - end)
    kept = {newest}
    for end in wanted:
        spans = sorted((max(each - window, 0), each) for each in {*kept, end})
        if len(kept) < CHECKPOINTS - 1 and (not window or _covered(spans) <= tokens):
            kept.add(end)
    # However wide its window is: without it every other conversation reads the system prompt.
    return {*kept, ends[0]}


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """How many positions the spans, in order, hold together."""
    total = reached = 0
    for start, end in spans:
        total += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return total
