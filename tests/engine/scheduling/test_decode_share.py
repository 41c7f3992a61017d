"""A running stream beside long prompts, on a machine whose clock is counted."""

import pytest

from mlxd.engine.scheduling.decode_share import DecodeShare
from mlxd.engine.scheduling.prefill import Prefill

BUDGET = 0.25
SLOW = 0.2
OVERHEAD = 0.001
"""What the loop itself takes for a step."""


class Machine:
    """Computes `rate` tokens of prompts a second, or one token of a stream in `each` seconds.

    As a device does, it begins a decode step with the step loop's call and computes it behind, so
    that the loop waits for it in the piece of prefill that follows, or in the next step.
    """

    def __init__(self, rate: float, each: float, share: float) -> None:
        self.now = 0.0
        self.tokens = [0.0]
        """When the stream got each of its tokens."""
        self._rate, self._each = rate, each
        self._prefill, self._share = Prefill(BUDGET), DecodeShare(share)
        self._prefill.took(200, 200 / rate)
        self._begun = 0.0

    def step(self, left: list[int]) -> None:
        """One step beside the first of the prompts with so many tokens left."""
        alone = self._share.due or not left
        decode, self._begun = self._begun + OVERHEAD, self._each
        self.now += decode
        self.tokens.append(self.now)
        spent, size = 0.0, 0
        if not alone:
            size = self._prefill.piece(left[:1], waiting=len(left), decoding=1)
            left[0] -= size
            spent = self._begun + size / self._rate
            self._begun = 0.0
            self.now += spent
            if left[0] <= 1:
                del left[0]
        own = self._share.stepped(decode, spent)
        if spent:
            self._prefill.took(size, own)


def beside(prompts: list[int], *, share: float, rate: float = 400, each: float = 0.05) -> Machine:
    """A stream's machine after prompts of these lengths were computed beside it."""
    machine, left = Machine(rate, each, share), list(prompts)
    for _ in range(20):
        machine.step([])
    machine.tokens = [machine.now]
    while left:
        machine.step(left)
    return machine


@pytest.mark.parametrize("prompts", [[60_000], [1500], [20_000] * 3])
@pytest.mark.parametrize("each", [0.002, 0.05, SLOW])
@pytest.mark.parametrize("share", [0.34, 0.5, 1.0])
def test_a_stream_keeps_its_share_beside_long_prompts(
    prompts: list[int], each: float, share: float
) -> None:
    machine = beside(prompts, share=share, each=each)
    seconds = machine.tokens[-1] - machine.tokens[0]
    alone = seconds / (each + OVERHEAD)
    kept, promised = (len(machine.tokens) - 1) / alone, share / (1 + share)
    assert kept >= 0.95 * promised - 3 / alone
    # Where a decode step takes nearly as long as a piece, the one behind each piece is more.
    assert each == SLOW or kept <= 1.05 * promised + 3 / alone


@pytest.mark.parametrize("share", [0.0, 0.34, 1.0])
@pytest.mark.parametrize("each", [0.002, 0.05, SLOW])
@pytest.mark.parametrize("prompts", [[20_000], [20_000] * 3])
def test_a_stream_waits_for_two_budgets_and_its_own_step_at_most(
    prompts: list[int], each: float, share: float
) -> None:
    machine = beside(prompts, share=share, each=each)
    pairs = zip(machine.tokens, machine.tokens[1:], strict=False)
    longest = BUDGET * min(2, len(prompts)) * 1.2
    assert max(after - before for before, after in pairs) <= longest + each + 2 * OVERHEAD


def test_the_prompt_takes_so_much_longer_and_no_more() -> None:
    alone = 60_000 / 400
    assert beside([60_000], share=0.34).now - 1.0 == pytest.approx(1.34 * alone, rel=0.03)


def test_without_a_share_one_step_follows_each_piece() -> None:
    assert not DecodeShare(0.0).due
    machine = beside([60_000], share=0.0)
    assert len(machine.tokens) < 60_000 / 400 / BUDGET * 1.3


def test_nothing_is_owed_once_no_stream_is_left() -> None:
    share = DecodeShare(0.5)
    share.stepped(0.05, 0.0)
    share.stepped(0.05, 0.3)
    assert share.due
    share.nothing_decodes()
    assert not share.due
