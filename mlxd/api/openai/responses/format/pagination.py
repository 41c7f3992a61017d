"""Lists of items, page by page, and the query that asks for a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from mlxd.errors import InvalidField, ItemNotFound
from mlxd.history import Item

MAX_PAGE = 100
"""Items of one page."""
USUAL_PAGE = 20

Order = Literal["asc", "desc"]


@dataclass(frozen=True)
class Page:
    """Which items are asked for: `limit` of them behind the one named `after`."""

    limit: int = USUAL_PAGE
    order: Order = "desc"
    after: str = ""

    def of(self, items: Sequence[Item]) -> bytes:
        """The JSON of the list, from `items` in the order they came; raises `ItemNotFound`.

        What came again under its id is listed once: pages go on from ids.
        """
        ordered = list({item.id: item for item in reversed(items)}.values())
        if self.order == "asc":
            ordered.reverse()
        begin = 0
        if self.after:
            ids = [item.id for item in ordered]
            if self.after not in ids:
                raise ItemNotFound(self.after)
            begin = ids.index(self.after) + 1
        end = begin + self.limit
        return item_list(ordered[begin:end], more=len(ordered) > end)


def item_list(items: Sequence[Item], *, more: bool = False) -> bytes:
    """The JSON of a list with these items."""
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [msgspec.Raw(item.body) for item in items],
            "first_id": items[0].id if items else "",
            "last_id": items[-1].id if items else "",
            "has_more": more,
        }
    )


def requested_page(query: Mapping[str, str]) -> Page:
    """The page that a query names; raises `InvalidField`."""
    limit = whole_number(query, "limit", USUAL_PAGE)
    if not 1 <= limit <= MAX_PAGE:
        message = f"Invalid 'limit': expected 1 to {MAX_PAGE}, but got {limit} instead."
        raise InvalidField("limit", "value", message)
    match query.get("order") or "desc":
        case "asc" | "desc" as order:
            return Page(limit, order, query.get("after", ""))
        case other:
            message = f"Invalid value: {other!r:.64}. Supported values are: 'asc' and 'desc'."
            raise InvalidField("order", "value", message)


def whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of a query; raises `InvalidField`."""
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 16):
        message = f"Invalid type for '{name}': expected an integer."
        raise InvalidField(name, "type", message)
    return int(text)


def starting_after(query: Mapping[str, str]) -> int:
    """The number of the last event that a reader has seen, -1 for none; raises `InvalidField`."""
    return max(-1, whole_number(query, "starting_after", -1))


def is_true(query: Mapping[str, str], name: str) -> bool:
    """A switch of a query, as the clients write it."""
    return query.get(name, "").lower() in ("true", "1")
