"""KV prefixes of earlier requests, so that no prompt is computed twice.

What was computed is kept in a tree of blocks that prompts share, one for each scope (model and API
key). What is used least goes first when the byte limit is reached.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from mlxd.engine.batching.block_tree import BlockTree, Ids, Match, Node
from mlxd.engine.batching.cache_layers import Arrays, Cache, ComputedCache, Joiner, Whole
from mlxd.engine.batching.stored_answers import DiskAnswers
from mlxd.engine.batching.stored_prefixes import DiskPlan, Parts, StoredModel, StoredPrefixes
from mlxd.engine.prefix_disk.spill import PrefixDisk
from mlxd.events import CacheNote
from mlxd.status import PrefixDiskFigures

MIN_TOKENS = 4
"""A shorter prefix is not worth keeping."""
CHECKPOINT_GAP = 64
"""A prompt's checkpoint so few tokens behind another saves less than it takes."""
LOSSES = 1000
"""Scopes of which is remembered why they lost prefixes."""
JOINING = 2.0
"""How much longer than reading alone it takes to have a prefix from the disk in memory."""


@dataclass(frozen=True)
class PrefixHit:
    """`cached` tokens of the prompt are in `cache`; `note` says why not more.

    An earlier prompt began with the same `common` tokens.
    """

    cache: Cache | None
    cached: int
    note: CacheNote | None
    common: int = 0

    @property
    def fork(self) -> int | None:
        """Where prompts part that could share more, if something were kept there."""
        return self.common if self.common - self.cached >= CHECKPOINT_GAP else None


class Prefixes:
    """The prefix cache of one engine process; `limit` is in bytes and may be changed.

    With a `disk`, what leaves memory is kept there, of the models that `serve` was called for.
    """

    def __init__(self, limit: int, disk: PrefixDisk | None = None) -> None:
        self.limit = limit
        """Bytes that they may take, which is no more than `left`."""
        self.left = limit
        """Bytes that weights and rows leave."""
        self.hits = 0
        self.hit_tokens = 0
        self.unsaved = False
        """Whether there may be something that the disk has not."""
        self._stored = StoredPrefixes(disk) if disk is not None else None
        self._tree = BlockTree(self._keep)
        self._joiners: dict[str, Joiner] = {}
        # Why a scope has lost prefixes; the words say what became of them.
        self._losses: OrderedDict[str, CacheNote] = OrderedDict()

    def __len__(self) -> int:
        """How many prompts are kept that no other goes on from."""
        return sum(1 for _ in self._tree.leaves())

    @property
    def nbytes(self) -> int:
        """What they take together."""
        return self._tree.nbytes

    @property
    def longest(self) -> int:
        """What the longest of them takes, and a row that uses it once more."""
        return max((_path_bytes(leaf) for _, leaf in self._tree.leaves()), default=0)

    def reach(self, scope: str, tokens: Sequence[int]) -> int:
        """How many tokens `find` would find, without taking them."""
        return self._tree.match(scope, _ids(tokens)).usable

    def find(self, scope: str, tokens: Sequence[int]) -> PrefixHit:
        """The longest usable prefix of `tokens`, at least one token short of the whole."""
        match = self._tree.match(scope, _ids(tokens))
        note = self._why_not(scope, len(tokens), match)
        if match.usable < MIN_TOKENS:
            self._tree.use(match._replace(usable=0))
            return PrefixHit(None, 0, note, match.common)
        self._tree.use(match)
        self.hits += 1
        self.hit_tokens += match.usable
        return PrefixHit(self._joined(scope, match), match.usable, note, match.common)

    def _joined(self, scope: str, match: Match) -> Cache:
        kv, windows, state = [], [], None
        for node in match.path:
            if node.start >= match.usable:
                break
            held, length = cast(Arrays, node.kv), min(node.end, match.usable) - node.start
            kv.append(held if length == held.length else held.view(0, length))
            if node.window is not None:
                window, beyond = cast(Arrays, node.window), max(node.end - match.usable, 0)
                windows.append(window.view(0, max(window.length - beyond, 0)))
            if node.end == match.usable:
                state = cast(Whole | None, node.state)
        return self._joiners[scope].join(kv, windows, state, match.usable)

    def _why_not(self, scope: str, length: int, match: Match) -> CacheNote | None:
        """Why not more of a prompt of so many tokens is known; None when it could not be more."""
        lost = self._losses.get(scope)
        if scope not in self._tree.scopes:
            if lost is not None:
                return CacheNote(lost.reason, f"earlier prompts {lost.words}")
            # A scope is a model and an owner.
            _, _, owner = scope.partition("\n")
            if any(other.partition("\n")[2] == owner for other in self._tree.scopes):
                return CacheNote(
                    "other_model", "earlier prompts of this key were for another model"
                )
            return CacheNote("first_prompt", "first prompt of this key")
        if match.usable >= length - 1:
            return None
        if match.usable == match.common and match.path and match.path[-1].end == match.common:
            if (cut := match.path[-1].lost) is not None:
                return CacheNote(cut.reason, f"earlier prompts {cut.words}")
            if match.goes_on:
                return None
        others = f"; others {lost.words}" if lost is not None else ""
        if match.usable < min(match.common, length - 1):
            words = f"shares {match.common} tokens with a state that can't be cut"
            return CacheNote("not_cut", words + others)
        words = f"differs from the closest earlier prompt after token {match.common}"
        return CacheNote("differs", words + others)

    def put(
        self,
        scope: str,
        tokens: Sequence[int],
        cache: Cache,
        *,
        answered: bool = False,
        note: bytes = b"",
    ) -> None:
        """Keep what is not there yet of `cache`, which holds exactly `tokens`.

        Of what is longer than the limit its beginning is kept, as far as it can be cut. `answered`
        says that the tokens end with a whole answer, which the next prompt is likely to go on from.
        `note` goes to the disk with them.
        """
        ids, computed = _ids(tokens), ComputedCache(cache, len(tokens))
        whole = bool(computed.window) or computed.has_state
        length = self._fitting(computed, whole=whole)
        words = f"are longer than the prefix cache, which holds {length} tokens"
        why = CacheNote("too_long", words)
        if length < len(ids):
            self._lost(scope, why)
        if length < MIN_TOKENS:
            return
        near = whole and not answered and self._has_checkpoint(scope, ids)
        self._joiners[scope] = computed.joiner
        last = self._tree.add(scope, ids[:length], computed, checkpoint=not near, answered=answered)
        if length < len(ids):
            last.lost = why
        elif note:
            last.notes[length] = note
        self.unsaved = True
        self.shrink(self.limit)

    def _fitting(self, computed: ComputedCache, *, whole: bool) -> int:
        """How many tokens of a cache may be kept: all of what can't be cut, or nothing."""
        length, nbytes = computed.kv.length, computed.nbytes
        if whole:
            return length if nbytes <= self.limit else 0
        return min(length, self.limit * length // nbytes) if nbytes else length

    def _has_checkpoint(self, scope: str, ids: Ids) -> bool:
        match = self._tree.match(scope, ids)
        ends = (node.end for node in match.path if node.checkpoint and node.end <= match.common)
        return any(len(ids) - end < CHECKPOINT_GAP for end in ends)

    def shrink(self, nbytes: int) -> None:
        """Drop what will be missed least until at most `nbytes` are held."""
        why = CacheNote("evicted", "were dropped to free memory")
        while self.nbytes > nbytes and (scope := self._tree.evict(why)) is not None:
            self._lost(scope, why)

    def allow(self, left: int, most: int | None) -> None:
        """Take what weights and rows leave now, and no more than `most`."""
        self.left = left
        self.limit = left if most is None else min(most, left)
        self.shrink(self.limit)

    def yield_to(self, nbytes: int) -> None:
        """Leave so much more to rows, until what they take is measured again."""
        self.left = max(self.left - nbytes, 0)
        self.limit = min(self.limit, self.left)
        self.shrink(self.limit)

    def forget(self, scope_prefix: str) -> None:
        """Drop all prompts of the scopes that begin with `scope_prefix` (a model)."""
        for scope, leaf in self._tree.leaves():
            if self._stored is not None and scope.startswith(scope_prefix):
                self._stored.keep(scope, leaf, path=True)
        self._drop(scope_prefix, CacheNote("unloaded", "went when the model was unloaded"))

    def distrust(self) -> None:
        """Drop all prompts, and keep none of them: a step failed, and they may come out of it."""
        self._drop("", CacheNote("evicted", "were dropped after a step failed"))

    def _drop(self, scope_prefix: str, why: CacheNote) -> None:
        for scope in [each for each in self._tree.scopes if each.startswith(scope_prefix)]:
            self._tree.forget(scope)
            self._lost(scope, why)

    @property
    def disk(self) -> PrefixDiskFigures:
        """How the disk is; nothing is kept there by default."""
        return self._stored.disk.figures if self._stored is not None else PrefixDiskFigures()

    @property
    def answers(self) -> DiskAnswers | None:
        """What was said, as far as the disk has it."""
        return DiskAnswers(self._stored) if self._stored is not None else None

    def serve(self, model: str, fingerprint: str, empty: Cache, reading: str = "") -> None:
        """A model's files have this fingerprint: its prompts may be on the disk.

        What was said is found only if it was read with the same tokenizer, of which `reading` is
        the state.
        """
        if self._stored is not None:
            self._stored.serve(model, StoredModel(fingerprint, empty, reading))

    def on_disk(
        self, scope: str, tokens: Sequence[int], seconds: Callable[[int], float]
    ) -> DiskPlan | None:
        """How the disk knows more of a prompt, where computing would take longer than reading.

        `seconds` says how long so many tokens take to compute; 0 while that is not known.
        """
        if self._stored is None:
            return None
        ids = _ids(tokens)
        plan = self._stored.plan(scope, ids, self._tree.match(scope, ids), self.limit)
        if plan is None:
            return None
        computing = seconds(plan.gain)
        reading = JOINING * self._stored.disk.seconds(plan.nbytes)
        return plan if not computing or reading < computing else None

    def read(self, plan: DiskPlan, wanted: Callable[[], bool], then: Callable[[], None]) -> None:
        """Take from the disk what a plan says; `then` it can be found, or was not there after all.

        Nothing more is read once it is not `wanted`.
        """
        assert self._stored is not None, "a plan is of a disk"
        stored = self._stored

        def arrived(parts: Parts | None) -> None:
            if parts is not None:
                self._restore(stored, plan, parts)
            then()

        stored.read(plan, wanted, arrived)

    def _restore(self, stored: StoredPrefixes, plan: DiskPlan, parts: Parts) -> None:
        match = self._tree.match(plan.scope, plan.tokens)
        cache = stored.put_together(plan, parts, match)
        if cache is None:
            return
        name, _, _ = plan.scope.partition("\n")
        self._joiners.setdefault(plan.scope, Joiner(stored.models[name].empty))
        self._tree.add(plan.scope, plan.tokens, cache)
        stored.disk.used(plan.chain, plan.gain)
        self.shrink(self.limit)

    def _keep(self, scope: str, node: Node) -> None:
        if self._stored is not None:
            self._stored.keep(scope, node)

    def save(self, emptied: Callable[[], None]) -> None:
        """Have all written that the disk has not, what was used last first.

        Where the queue is full, `emptied` is called when it is time to go on. Each block comes
        before those behind it, so that what is cut short is a beginning.
        """
        if self._stored is None:
            return
        for scope, leaf in self._newest():
            if self._stored.keep(scope, leaf, path=True, emptied=emptied):
                return
        # A disk that takes nothing just now may do so later.
        self.unsaved = not self._stored.disk.writes
        self._stored.disk.then(lambda: None)

    def save_within(self, seconds: float) -> None:
        """As `save`, and wait for it, but not for longer."""
        if self._stored is None:
            return
        disk, end = self._stored.disk, time.monotonic() + seconds
        for scope, leaf in self._newest():
            while left := self._stored.keep(scope, leaf, path=True, emptied=lambda: None):
                if not disk.wait_for_room(left, end - time.monotonic()):
                    return
        disk.finish(end - time.monotonic())

    def _newest(self) -> list[tuple[str, Node]]:
        return sorted(self._tree.leaves(), key=lambda item: -item[1].used)

    def _lost(self, scope: str, why: CacheNote) -> None:
        self._losses[scope] = why
        self._losses.move_to_end(scope)
        if len(self._losses) > LOSSES:
            forgotten, _ = self._losses.popitem(last=False)
            if forgotten not in self._tree.scopes:
                self._joiners.pop(forgotten, None)


def _ids(tokens: Sequence[int]) -> Ids:
    return np.asarray(tokens, dtype=np.uint32)


def _path_bytes(leaf: Node) -> int:
    total, node = 0, leaf
    while node.parent is not None:
        total, node = total + node.nbytes, node.parent
    return total
