"""`service_tier`: how urgent a request is among those of its key, and what it was given."""

from mlxd.api.dialect import Caller

KNOWN = ("auto", "default", "flex", "priority")
_PRIORITIES = {"flex": -1, "priority": 1}
_TIERS = {-1: "flex", 0: "default", 1: "priority"}


def priority(tier: str | None, caller: Caller) -> int:
    """What a request gets, within what its key may."""
    return min(_PRIORITIES.get(tier or "", 0), caller.best_priority)


def given(tier: str | None, caller: Caller) -> str:
    """What its answer says of that."""
    return _TIERS[priority(tier, caller)]
