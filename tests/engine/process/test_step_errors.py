"""What callers are told of an exception in a step."""

import pytest

from mlxd.engine.process.worker import as_reported
from mlxd.errors import InternalError, OutOfMemory

pytestmark = pytest.mark.mlx


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("[malloc] Unable to allocate 137438953472 bytes."),
        RuntimeError("[metal::malloc] Resource limit (499000) exceeded."),
        RuntimeError("[malloc_or_wait] Unable to allocate 1024 bytes."),
        RuntimeError(
            "[METAL] Command buffer execution failed: Insufficient Memory "
            "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)."
        ),
        RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=str,
)
def test_an_allocation_that_failed_is_out_of_memory(error: Exception) -> None:
    assert isinstance(as_reported(error), OutOfMemory)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the memory of the prompt has no room for a tool"),
        ValueError("[malloc] out of memory"),
        KeyError("memory"),
        RuntimeError("the array's memory is not contiguous"),
        RuntimeError("[gather] the memory layout is wrong"),
    ],
    ids=str,
)
def test_another_error_that_speaks_of_memory_is_a_defect(error: Exception) -> None:
    reported = as_reported(error)
    assert isinstance(reported, InternalError)
    assert type(error).__name__ in str(reported)
