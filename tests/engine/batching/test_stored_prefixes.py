"""What leaves memory is found on the disk, bitwise: hand-made caches of every shape."""

import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mlxd.engine.batching.block_tree import BLOCK
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.prefix_disk import folder
from mlxd.engine.prefix_disk.spill import PrefixDisk
from mlxd.engine.prompt.answers import Answers
from mlxd.engine.protocol import PrefixDiskLimits
from tests.engine.batching.test_shared_prefixes import (
    SHAPES,
    assert_is_of,
    cache_of,
    numbers,
)

pytestmark = pytest.mark.mlx

LIMIT = 10**9
SECONDS = 30.0
SCOPE = "m\nkey"


class Run:
    """Prefixes as one process has them, on a folder that outlives it."""

    def __init__(
        self,
        root: Path,
        empty: list[Any],
        *,
        memory: int = LIMIT,
        disk: int = LIMIT,
        fingerprint: str = "f" * 32,
        reading: str = "as it was",
        model: str = "m",
    ) -> None:
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        limits = PrefixDiskLimits(str(root), disk, LIMIT, free_bytes=0)
        self.disk = PrefixDisk(limits, LIMIT, [model], self._posted.put)
        self.prefixes = Prefixes(memory, self.disk)
        self.prefixes.serve(model, fingerprint, empty, reading)
        self.answers = Answers(stored=self.prefixes.answers)
        assert self.disk.finish(SECONDS)

    def find(self, tokens: list[int], scope: str = SCOPE) -> int:
        """Read what the disk has, as a waiting request does; the tokens that memory has then."""
        for _ in range(3):
            plan = self.prefixes.on_disk(scope, tokens, lambda count: 0.0)
            if plan is None:
                break
            over = threading.Event()
            self.prefixes.read(plan, lambda: True, over.set)
            while not over.is_set():
                self._posted.get(timeout=SECONDS)()
        return self.prefixes.reach(scope, tokens)

    def end(self) -> None:
        """As a server that drains."""
        self.prefixes.save_within(SECONDS)
        self.disk.close()


def files_of(root: Path) -> list[Path]:
    return [root / found.file.place for found in folder.scan(root)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_conversation_goes_on_after_a_restart_as_if_nothing_had_been(
    shape: str, tmp_path: Path
) -> None:
    empty, talk = cache_of(shape, []), numbers(300)
    first = Run(tmp_path, empty)
    for turn in range(3):
        first.prefixes.put(SCOPE, talk, cache_of(shape, talk))
        talk = talk + numbers(100, 1000 * turn + 300)
        first.prefixes.put(SCOPE, talk, cache_of(shape, talk), answered=True)
        talk = talk + numbers(300, 1000 * turn + 400)
    known = talk[:-300]
    first.end()
    second = Run(tmp_path, empty)
    assert second.find(talk) == len(known)
    hit = second.prefixes.find(SCOPE, talk)
    assert hit.cached == len(known)
    assert hit.cache is not None
    assert_is_of(hit.cache, shape, known)
    assert second.find(talk, "m\nanother key") == 0, "another key finds nothing"
    figures = second.disk.figures
    assert (figures.hits, figures.hit_tokens, figures.damaged) == (1, len(known), 0)
    second.end()
    other = Run(tmp_path, empty, fingerprint="e" * 32)
    assert other.find(talk) == 0, "nor does another model"
    other.end()


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_memory_and_disk_have_of_it_what_is_found_is_of_these_tokens(
    shape: str, tmp_path: Path
) -> None:
    whole = sum(layer.nbytes for layer in cache_of(shape, numbers(BLOCK)))
    for seed in range(2):
        rng, talks, read = random.Random(seed), [[1, 2, 3]], 0
        for _ in range(4):
            run = Run(tmp_path, cache_of(shape, []), memory=rng.choice([2 * whole, LIMIT]))
            for _ in range(5):
                base = rng.choice(talks)
                kept = base[: rng.randrange(len(base) + 1)] if rng.random() < 0.4 else base
                talk = kept + [rng.randrange(3) for _ in range(rng.choice([5, 80, 300]))]
                run.find(talk)
                hit = run.prefixes.find(SCOPE, talk)
                if hit.cache is not None:
                    assert_is_of(hit.cache, shape, talk[: hit.cached])
                run.prefixes.put(SCOPE, talk, cache_of(shape, talk), answered=rng.random() < 0.5)
                talks.append(talk)
                assert run.prefixes.nbytes <= run.prefixes.limit
            read += run.disk.figures.hit_tokens
            run.end()
        assert read > 0
        shutil.rmtree(tmp_path)
