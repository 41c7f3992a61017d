"""How much of the memory a Mac keeps wired for the GPU: left alone, or set once.

mlx-lm sets the limit when it makes a generator and sets it back when that one is closed, while
others compute. Macs whose limit changes under load are reported to panic
(https://github.com/ml-explore/mlx/issues/3186); those where it is never touched are not.
"""

import logging

import mlx.core as mx
from mlx_lm.generate import generate_step

SETTER = "maybe_set_recommended_wired_limit"
"""What mlx-lm's generators call; None as its answer leaves nothing to set back."""
RECOMMENDED = "max_recommended_working_set_size"
"""The device's own figure, in bytes; devices other than Metal's have none."""

log = logging.getLogger(__name__)


def hold_wired_limit(*, wired: bool) -> None:
    """Keep mlx-lm from changing the limit; `wired` sets it to what the device recommends.

    For once in a process, before the first model.
    """
    module = generate_step.__globals__
    assert SETTER in module, "mlx-lm sets the limit under another name: find it"
    module[SETTER] = lambda: None
    recommended = mx.device_info().get(RECOMMENDED) if wired else None
    if recommended:
        mx.set_wired_limit(int(recommended))
        log.info("%.1f GB may be kept wired", int(recommended) / 1e9)
