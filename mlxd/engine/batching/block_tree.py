"""A tree of token blocks: what prompts that begin alike have in common is held once. No MLX.

A node holds up to `BLOCK` tokens and what was computed of them. Where prompts differ a node is
split, so that siblings begin with different tokens. Tokens are compared, never hashes of them.

Some of what a model computes can't be cut: a recurrent state belongs to exactly one position, and a
sliding window to the tokens before one. Such a position, where a prompt or an answer ended, is a
checkpoint; only some of them are kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mlxd.engine.batching.checkpoints import WINDOW_SHARE, worth_keeping
from mlxd.engine.batching.computed import Computed, State, Stretch
from mlxd.events import CacheNote

BLOCK = 256
"""The most tokens of a node."""
MOST_USES = 8
"""Requests that a prefix has served, beyond which more make it no dearer.

So titles, sub-agents and batches, whose prompts are read once or a few times, don't drive a long
conversation out; and one that is over goes in the end.
"""

Ids = np.ndarray[Any, np.dtype[np.uint32]]


class Gone(NamedTuple):
    """What is known of a node that was evicted: should it come again, it is as dear as before."""

    tokens: Ids
    uses: int
    continues: bool


@dataclass(eq=False)
class Node:
    """The tokens from `start` on below a parent.

    `window` is of the node's last tokens, as far as the sliding windows held them.
    """

    parent: "Node | None"
    start: int
    tokens: Ids
    kv: Stretch | None = None
    window: Stretch | None = None
    state: State | None = None
    checkpoint: bool = False
    children: "dict[int, Node]" = field(default_factory=dict)
    used: int = 0
    """When it was used last, counted in uses."""
    uses: int = 0
    """How many requests it has served, or what it goes on with had before it was there."""
    continues: bool = False
    """What goes on from its end is of the same conversation."""
    gone: "Gone | None" = None
    """What went on from its end and was evicted last."""
    lost: CacheNote | None = None
    """Why it does not go on as it did once."""
    notes: dict[int, bytes] = field(default_factory=dict)
    """What is kept on the disk besides, by the position that it belongs to."""

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.kv, self.window, self.state) if part is not None)

    @property
    def path(self) -> "list[Node]":
        """The nodes from the first tokens up to this one."""
        nodes: list[Node] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    @property
    def window_start(self) -> int:
        """Where the tokens begin that `window` holds; the node's end without one."""
        return self.end - (self.window.length if self.window else 0)


@dataclass(eq=False)
class Root(Node):
    """Where the prompts of one scope begin, and what a position needs besides what can be cut.

    These are the tokens that sliding windows look back, and a state.
    """

    needs_window: int = 0
    needs_state: bool = False

    def serves(self, node: Node) -> bool:
        """Whether a prompt may go on from the end of `node`."""
        windowed = not self.needs_window or node.window is not None
        return windowed and (not self.needs_state or node.state is not None)


class Match(NamedTuple):
    """How a prompt begins: `common` tokens are those of `path`, and `usable` of them serve it."""

    path: list[Node]
    common: int
    usable: int

    @property
    def goes_on(self) -> bool:
        """Whether the path was followed to its very end."""
        return bool(self.path) and self.path[-1].end == self.common and not self.path[-1].children


class BlockTree:
    """The prefixes of all scopes; `leaving` gets each node that is evicted, while it is whole."""

    def __init__(self, leaving: Callable[[str, Node], None] = lambda scope, node: None) -> None:
        self.nbytes = 0
        self._leaving = leaving
        self._roots: dict[str, Root] = {}
        self._clock = 0

    @property
    def scopes(self) -> list[str]:
        """The scopes that hold something."""
        return list(self._roots)

    def leaves(self) -> Iterator[tuple[str, Node]]:
        """The ends of all prompts that no other goes on from, with their scopes."""
        for scope, root in self._roots.items():
            for leaf in _leaves(root):
                yield scope, leaf

    def match(self, scope: str, tokens: Ids) -> Match:
        """How far `tokens` are known; at least one token is left to compute."""
        root = self._roots.get(scope)
        if root is None:
            return Match([], 0, 0)
        path, common = _walk(root, tokens)
        return Match(path, common, _usable(root, path, min(common, len(tokens) - 1)))

    def use(self, match: Match) -> None:
        """What serves a prompt was used again."""
        self._clock += 1
        for node in match.path:
            if node.start >= match.usable:
                break
            node.used = self._clock
            node.uses += 1

    def add(
        self,
        scope: str,
        tokens: Ids,
        computed: Computed,
        *,
        checkpoint: bool = True,
        answered: bool = False,
    ) -> Node:
        """Keep what was computed of `tokens`; cut out is only what is not there yet.

        Without `checkpoint` nothing is kept that can't be cut. `answered` says that a conversation
        is likely to go on from their end. Returns where the tokens end.
        """
        root = self._roots.setdefault(scope, Root(None, 0, tokens[:0]))
        root.needs_window, root.needs_state = computed.window, computed.has_state
        whole = computed.window or computed.has_state
        self._clock += 1
        path, common = _walk(root, tokens)
        if path and common < path[-1].end and (common < len(tokens) or (whole and checkpoint)):
            path[-1] = self._split(path[-1], common - path[-1].start)
        parent = path[-1] if path else root
        (uses, continues), notes = _inherited(parent, tokens), dict[int, bytes]()
        if common < len(tokens) and not whole and path and _may_grow(parent):
            # An end in the middle of a block would leave a block for each turn.
            notes = path[-1].notes
            self._remove(path.pop())
            parent = path[-1] if path else root
            common = parent.end
        while common < len(tokens):
            end = min(common + BLOCK, len(tokens))
            node = Node(parent, common, tokens[common:end], computed.kv.part(common, end))
            node.uses, node.continues = uses, continues
            parent.lost = parent.gone = None
            node.notes, notes = notes, {}
            parent.children[int(node.tokens[0])] = node
            self.nbytes += node.nbytes
            path.append(node)
            parent, common = node, end
        for node in path:
            node.used = self._clock
        path[-1].continues |= answered and path[-1].end == len(tokens)
        if whole and checkpoint and path:
            self._keep_checkpoint(path, computed)
            self._thin(root, path)
        return path[-1]

    def _remove(self, leaf: Node) -> Node:
        """Take a leaf away; returns its parent."""
        assert leaf.parent is not None, "a root stays"
        assert not leaf.children, "others go on from it"
        del leaf.parent.children[int(leaf.tokens[0])]
        self.nbytes -= leaf.nbytes
        leaf.parent.gone = Gone(leaf.tokens, leaf.uses, leaf.continues)
        return leaf.parent

    def _keep_checkpoint(self, path: list[Node], computed: Computed) -> None:
        end = path[-1].end
        path[-1].checkpoint = True
        if path[-1].state is None and computed.has_state:
            path[-1].state = computed.state
            self.nbytes += computed.state.nbytes
        first = end - min(computed.held, computed.window) if computed.window else end
        for node in reversed(path):
            start = max(first, node.start)
            if node.end <= first:
                break
            if node.window_start > start:
                origin = end - computed.windows.length
                part = computed.windows.part(start - origin, node.end - origin)
                self.nbytes += part.nbytes - (node.window.nbytes if node.window else 0)
                node.window = part

    def _split(self, node: Node, at: int) -> Node:
        """Cut a node in two; returns the first half."""
        before = node.nbytes
        assert node.parent is not None, "a root holds no tokens"
        assert node.kv is not None, "only a root has nothing"
        front = Node(node.parent, node.start, node.tokens[:at], node.kv.part(0, at))
        front.used, front.uses = node.used, node.uses
        for position in [each for each in node.notes if each <= front.end]:
            front.notes[position] = node.notes.pop(position)
        node.kv = node.kv.part(at, len(node.tokens))
        if node.window is not None:
            held = node.window.length
            rest = len(node.tokens) - at
            if held > rest:
                front.window = node.window.part(0, held - rest)
                node.window = node.window.part(held - rest, held)
        node.parent.children[int(node.tokens[0])] = front
        node.parent, node.start, node.tokens = front, node.start + at, node.tokens[at:]
        front.children[int(node.tokens[0])] = node
        self.nbytes += front.nbytes + node.nbytes - before
        return front

    def _thin(self, root: Root, path: list[Node]) -> None:
        """Keep few of a conversation's checkpoints, and of windows what these need."""
        # What other prompts go on from is not this one's alone.
        shared = max((n for n, node in enumerate(path) if len(node.children) > 1), default=-1)
        own = path[shared + 1 :]
        if not own:
            return
        ends = [node.end for node in own if node.checkpoint]
        kept = worth_keeping(ends, root.needs_window, _window_tokens(root, path))
        for node in own:
            before = node.nbytes
            if node.checkpoint and node.end not in kept:
                node.checkpoint, node.state = False, None
            if node.window is not None:
                starts = [
                    max(end - root.needs_window, node.start)
                    for end in kept
                    if end >= node.end > end - root.needs_window
                ]
                needed = node.end - min(starts, default=node.end)
                held = node.window.length
                if needed < held:
                    node.window = node.window.part(held - needed, held) if needed else None
            self.nbytes += node.nbytes - before

    def evict(self, why: CacheNote) -> str | None:
        """Drop the end of the prompt that will be missed least; its scope, None with nothing left.

        What was used last goes last, even if it was never used again.
        """
        leaves = list(self.leaves())
        if not leaves:
            return None
        newest = max(leaf.used for _, leaf in leaves)

        def worth(item: tuple[str, Node]) -> tuple[bool, int, int]:
            _, leaf = item
            # By doublings: of conversations that are about as long the one that is over goes.
            return leaf.used == newest, min(leaf.uses, MOST_USES).bit_length(), leaf.used

        scope, victim = min(leaves, key=worth)
        root = self._roots[scope]
        self._leaving(scope, victim)
        parent = self._remove(victim)
        # What is left between two checkpoints serves nobody.
        while parent.parent is not None and not parent.children and not root.serves(parent):
            self._leaving(scope, parent)
            parent = self._remove(parent)
        parent.lost = why
        if parent.parent is None and not parent.children:
            del self._roots[scope]
        return scope

    def forget(self, scope: str) -> None:
        """Drop all prompts of a scope."""
        self.nbytes -= sum(node.nbytes for node in _nodes(self._roots.pop(scope)))


def _inherited(parent: Node, tokens: Ids) -> tuple[int, bool]:
    """The `uses` and `continues` of what goes on from a node with `tokens`."""
    gone = parent.gone
    if gone is not None and common(tokens[parent.end :], gone.tokens) == len(gone.tokens):
        # It was driven out, and is needed after all.
        return gone.uses + 1, gone.continues
    return (parent.uses, parent.uses > 0) if parent.continues else (0, False)


def _may_grow(node: Node) -> bool:
    return not node.children and len(node.tokens) < BLOCK


def _walk(root: Root, tokens: Ids) -> tuple[list[Node], int]:
    """The nodes that `tokens` begin with, and how many tokens that are; the last may be in part."""
    path: list[Node] = []
    node: Node = root
    at = 0
    while at < len(tokens) and (child := node.children.get(int(tokens[at]))) is not None:
        path.append(child)
        shared = common(child.tokens, tokens[at : at + len(child.tokens)])
        at += shared
        if shared < len(child.tokens):
            break
        node = child
    return path, at


def _usable(root: Root, path: Sequence[Node], most: int) -> int:
    """The longest beginning, up to `most` tokens, of which everything is there."""
    spans = _window_spans(path) if root.needs_window else [(0, most)]
    positions = [most]
    if root.needs_state:
        positions = [node.end for node in reversed(path) if node.state and node.end <= most]
    elif root.needs_window:
        positions = sorted((min(end, most) for _, end in spans), reverse=True)
    for position in positions:
        first = max(position - root.needs_window, 0)
        if any(start <= first and position <= end for start, end in spans):
            return position
    return 0


def _window_spans(path: Sequence[Node]) -> list[tuple[int, int]]:
    """The stretches of positions, each without a gap, that sliding windows are there for."""
    spans: list[tuple[int, int]] = []
    for node in path:
        start = node.window_start
        if start == node.start and spans and spans[-1][1] == start:
            start = spans.pop()[0]
        if start < node.end:
            spans.append((start, node.end))
    return spans


def _window_tokens(root: Root, path: Sequence[Node]) -> float:
    """How many tokens of windows a conversation may hold for its checkpoints."""
    sized = [node.window for node in path if node.window is not None and node.window.length]
    each = sized[0].nbytes / sized[0].length if sized else 0.0
    length = path[-1].end
    cache = sum(node.kv.nbytes for node in path if node.kv) + each * min(root.needs_window, length)
    own = min(root.needs_window, length)
    return own + (WINDOW_SHARE * cache / each if each else 0.0)


def _nodes(top: Node) -> Iterator[Node]:
    left = [top]
    while left:
        node = left.pop()
        yield node
        left.extend(node.children.values())


def _leaves(top: Node) -> Iterator[Node]:
    return (node for node in _nodes(top) if not node.children and node.parent is not None)


def common(one: Ids, other: Ids) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(one), len(other))
    different = one[:length] != other[:length]
    first = int(different.argmax()) if length else 0
    return first if length and different[first] else length
