"""Prompts that don't fit, for callers who would rather lose the oldest part than be refused."""

from dataclasses import replace

from msgspec.structs import replace as changed

from mlxd.api.openai.responses.format.calls import ResolvedCall
from mlxd.api.wire.oldest_part import share_that_fits, shortened


def shortener(call: ResolvedCall) -> ResolvedCall:
    """`call`, able to leave out the oldest part of its history."""

    def shorter(tokens: int, window: int) -> ResolvedCall | None:
        (request,) = call.requests
        rest = shortened(request.messages, share_that_fits(tokens, window))
        if rest is None:
            return None
        return shortener(replace(call, requests=(changed(request, messages=rest),)))

    return replace(call, shorter=shorter)
