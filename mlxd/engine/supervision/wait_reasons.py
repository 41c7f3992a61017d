"""Why a request is still in the queue, in words."""

from mlxd.engine.phase_times import BATCH_FULL
from mlxd.engine.protocol import WaitReason
from mlxd.engine.supervision.request import PendingRequest
from mlxd.status import ModelInfo

UNBATCHED = "its model is served one request at a time"

_IN_THE_ENGINE: dict[WaitReason, str] = {
    "batch": BATCH_FULL,
    "memory": "its KV cache has no room beside what is running",
    "prefix": "another request computes the beginning of its prompt",
    "key": "its API key has as many requests running as it may",
    "disk": "the beginning of its prompt is read from the disk",
}


def wait_note(pending: PendingRequest, model: ModelInfo) -> str:
    """What `pending` waits for, empty when it does not wait; `model` is its model as it is now."""
    if not pending.queued:
        return ""
    if not pending.envelope.sent:
        return "the engine is not ready"
    if pending.envelope.postponed:
        return "its model waits for memory that other models use"
    if model.state == "loading":
        return "its model is being loaded"
    if not pending.accepted:
        return "its prompt is being tokenised"
    if pending.waits == "batch" and model.unbatched:
        return UNBATCHED
    return _IN_THE_ENGINE[pending.waits] if pending.waits is not None else ""
