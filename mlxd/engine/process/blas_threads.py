"""How many threads OpenBLAS computes with, while the process runs."""

import ctypes
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from mlxd.engine.scheduling.thread_choice import ThreadChoice

CHOSEN = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS")
"""Environment variables by which a user has said it already."""

log = logging.getLogger(__name__)


class ThreadCount(NamedTuple):
    """OpenBLAS's own number of threads, to be read and set."""

    now: int
    set: Callable[[int], None]


def openblas() -> ThreadCount | None:
    """That of the OpenBLAS that MLX computes with, unless there is none or the user has set it."""
    library = ctypes.CDLL(None)
    if any(map(os.environ.get, CHOSEN)) or not hasattr(library, "openblas_set_num_threads"):
        return None
    return ThreadCount(library.openblas_get_num_threads(), library.openblas_set_num_threads)


class BlasThreads:
    """Leaves a core to another program that keeps it busy."""

    def __init__(self, count: ThreadCount | None) -> None:
        self._count = count
        self._choice = ThreadChoice(count.now if count else 1)

    def took(self, tokens: int, seconds: float) -> None:
        """A piece of prefill took so long."""
        before = self._choice.threads
        self._choice.took(tokens, seconds)
        now = self._choice.threads
        if self._count is not None and now != before:
            log.debug("computing the next prompts with %d BLAS threads", now)
            self._count.set(now)
