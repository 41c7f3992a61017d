"""The wired limit of a Mac, with a device that is made up: left alone, or set once."""

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.models.loading import load
from mlxd.engine.process.wired_memory import RECOMMENDED, SETTER, hold_wired_limit
from mlxd.engine.protocol import ModelSpec
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limits that were set on a device that recommends one."""
    was_set: list[int] = []

    def set_limit(limit: int) -> int:
        was_set.append(limit)
        return 0

    monkeypatch.setitem(vars(mx), "device_info", lambda *_: {RECOMMENDED: 100})
    monkeypatch.setitem(vars(mx), "set_wired_limit", set_limit)
    # Set back when the test is over.
    module = generate_step.__globals__
    monkeypatch.setitem(module, SETTER, module[SETTER])
    return was_set


@pytest.mark.parametrize(("wired", "expected"), [(False, []), (True, [100])])
def test_batches_that_come_and_go_do_not_change_it(
    wired: bool, expected: list[int], limits: list[int], tmp_path: Path
) -> None:
    hold_wired_limit(wired=wired)
    loaded = load(ModelSpec(id="tiny", source=str(make_tiny_model(tmp_path))))
    batches = [MlxBatch(loaded, Prefixes(0), max_batch=2, prefill_budget=1.0) for _ in range(2)]
    for batch in batches:
        batch.close()
    assert limits == expected
