"""The results of a content filter that is not there, for clients that insist on seeing them."""

from collections.abc import Iterable, Sequence

import msgspec

from mlxd.api.dialect import Frame, JsonObject, Renderer
from mlxd.events import Answer, Event

SAFE: JsonObject = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
PROMPT_SAFE: JsonObject = {**SAFE, "jailbreak": {"filtered": False, "detected": False}}


class Filtered:
    """A renderer of chat answers whose choices carry results; see `Renderer`.

    There is never a chunk without choices for the results of the prompt: clients that read the
    first choice of every chunk break on it.
    """

    def __init__(self, inner: Renderer) -> None:
        self._inner = inner

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `Renderer.frames`."""
        for frame in self._inner.frames(choice, event):
            if not frame.data.startswith(b"{"):
                yield frame
                continue
            chunk: JsonObject = msgspec.json.decode(frame.data)
            for each in chunk.get("choices", ()):
                each["content_filter_results"] = SAFE if each["delta"].get("content") else {}
            yield Frame(msgspec.json.encode(chunk), frame.event)

    def idle(self) -> Iterable[Frame]:
        """See `Renderer.idle`."""
        return self._inner.idle()

    def end(self) -> Iterable[Frame]:
        """See `Renderer.end`."""
        return self._inner.end()

    def body(self, answers: Sequence[Answer]) -> bytes:
        """See `Renderer.body`."""
        body: JsonObject = msgspec.json.decode(self._inner.body(answers))
        for each in body["choices"]:
            each["content_filter_results"] = SAFE
        prompt = {"prompt_index": 0, "content_filter_results": PROMPT_SAFE}
        return msgspec.json.encode({**body, "prompt_filter_results": [prompt]})
