"""Why a prompt was not cached, in the usage of an answer."""

from mlxd.api.dialect import JsonObject
from mlxd.events import Usage


def uncached_tokens(usage: Usage) -> JsonObject:
    """A field that is named for the reason, with the tokens that were computed for it.

    There is none where no more could have been cached. A number, as everything beside it is:
    programs add up what they find in usage, field by field, and some take nothing else there.
    """
    if (note := usage.cache_note) is None:
        return {}
    return {f"uncached_{note.reason}_tokens": usage.prompt - usage.cached}
