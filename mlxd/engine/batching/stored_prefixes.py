"""Between the prefix tree and the disk: what was computed as bytes, and bytes as caches again."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np

from mlxd.engine.batching.block_tree import Ids, Match, Node
from mlxd.engine.batching.cache_layers import Arrays, Cache, ComputedCache, Whole
from mlxd.engine.prefix_disk.index import LayerNeeds
from mlxd.engine.prefix_disk.spill import PrefixDisk
from mlxd.engine.prefix_disk.spill_file import (
    ArrayForm,
    PositionIds,
    SpillData,
    SpillFile,
    SpillHeader,
    SpillKind,
)
from mlxd.engine.prompt.answers import RememberedAnswer

WORTH_READING = 64
"""Tokens that must be saved for the disk to be asked."""
READ_AHEAD = 8
"""Files of one prompt that are read while earlier ones are taken into memory."""
STATE_TOKENS = 256
"""The last tokens before a state, which stand in its file."""
DTYPES = {
    str(dtype).rpartition(".")[2]: dtype
    for dtype in (
        *(mx.float32, mx.float16, mx.bfloat16, mx.bool_, mx.complex64),
        *(mx.uint8, mx.uint16, mx.uint32, mx.uint64, mx.int8, mx.int16, mx.int32, mx.int64),
    )
}

log = logging.getLogger(__name__)


Where = tuple[PositionIds, tuple[str, str]]
"""The first position of an owner's prompts for a model, and where their files lie."""


class StoredModel:
    """A model whose prefixes are kept on the disk: `fingerprint` names its folder.

    `empty` are caches of it without tokens. `reading` is what its prompts depend on besides.
    """

    def __init__(self, fingerprint: str, empty: Cache, reading: str = "") -> None:
        self.fingerprint = fingerprint
        self.empty = empty
        self.reading = reading
        layers = ComputedCache(empty, 0)
        self.needs = LayerNeeds(layers.window, layers.has_state)
        self.states = layers.state_layers

    def prompt_id(self, first: PositionIds, before: bytes) -> str:
        """What the answers to a prompt are found by, which it was `before` them."""
        return first.of_prompt(self.reading.encode() + before)

    def taken_apart(self, state: Whole) -> tuple[list[mx.array], list[Any]] | None:
        """A state's arrays, and which is what; None where it could not be put together again."""
        arrays: list[mx.array] = []
        forms: list[Any] = []
        for layer, empty in zip(state.layers, self.states, strict=True):
            try:
                form = _form_of(layer.state, arrays)
                again = _filled(empty, form, arrays)
            except (TypeError, ValueError, AttributeError):
                return None
            # A class may hold more than the state it tells, which would be wrong in silence.
            if type(again) is not type(layer) or not _same(vars(again), vars(layer)):
                return None
            forms.append(form)
        return arrays, forms

    def put_together(self, arrays: Sequence[mx.array], forms: Sequence[Any]) -> Whole:
        """The state that was taken apart so."""
        layers = [
            _filled(empty, form, arrays) for empty, form in zip(self.states, forms, strict=True)
        ]
        return Whole(tuple(layers), sum(layer.nbytes for layer in layers))


class DiskPlan(NamedTuple):
    """What to read so that `tokens` are known, `gain` more than without; `files` with their ends.

    `chain` are all files that serve the tokens, also those that memory has.
    """

    scope: str
    tokens: Ids
    gain: int
    nbytes: int
    files: tuple[tuple[SpillFile, int], ...]
    chain: tuple[SpillFile, ...]


Parts = dict[SpillFile, Arrays | Whole]
"""What was read, by its files."""


class StoredPrefixes:
    """The prefixes of the models that were named, on one disk."""

    def __init__(self, disk: PrefixDisk) -> None:
        self.disk = disk
        self.models: dict[str, StoredModel] = {}

    def serve(self, name: str, model: StoredModel) -> None:
        """From now on, keep what is computed by the model `name`."""
        self.models[name] = model
        self.disk.serve(model.fingerprint, name)

    def keep(
        self,
        scope: str,
        node: Node,
        *,
        path: bool = False,
        emptied: Callable[[], None] | None = None,
    ) -> int:
        """Have a node written where it is not there yet, or its whole `path`.

        Returns bytes that there was no room for. They are dropped, or with `emptied` left to be
        offered again when that is called.
        """
        found = self.place_of(scope)
        if found is None or not self.disk.writes:
            return 0
        for file, part in _files(*found, node, path=path):
            content = partial(part.content, file)
            if not self.disk.offer(file, part.nbytes, content, emptied=emptied):
                return part.nbytes
        return 0

    def place_of(self, scope: str) -> tuple[StoredModel, Where] | None:
        """The model of a scope, and where its prompts begin on the disk."""
        name, _, owner = scope.partition("\n")
        model = self.models.get(name)
        where = self.disk.position(model.fingerprint, owner) if model is not None else None
        return (model, where) if model is not None and where is not None else None

    def plan(self, scope: str, tokens: Ids, match: Match, limit: int) -> DiskPlan | None:
        """How the disk knows more of a prompt than memory does; in memory `limit` bytes fit."""
        found = self.place_of(scope)
        if found is None:
            return None
        model, where = found
        least = match.usable + WORTH_READING
        needed = self.disk.ask(
            lambda index: index.longest(*where, tokens, model.needs, least=least, most_bytes=limit)
        )
        if needed is None:
            return None
        # Of what can be cut, memory has the beginning.
        files = tuple(
            (file, end) for file, end in needed.files if file.kind != "kv" or end > match.common
        )
        chain = tuple(file for file, _ in needed.files)
        gain = min(needed.tokens, len(tokens) - 1) - match.usable
        return DiskPlan(scope, tokens[: needed.tokens], gain, needed.nbytes, files, chain)

    def read(
        self, plan: DiskPlan, wanted: Callable[[], bool], then: Callable[[Parts | None], None]
    ) -> None:
        """Read all files of a plan; `then` gets nothing if one is not there or damaged.

        So it is, too, if the plan is not `wanted` any more.
        """
        name, _, _ = plan.scope.partition("\n")
        _Reading(self.disk, self.models[name], plan, wanted=wanted, then=then).begin()

    def put_together(self, plan: DiskPlan, parts: Parts, match: Match) -> "StoredCache | None":
        """The cache that was read, with what memory has of it; None if a gap is left."""
        name, _, _ = plan.scope.partition("\n")
        held: list[tuple[int, Arrays]] = []
        for node in match.path:
            kv, length = cast(Arrays, node.kv), min(node.end, match.common) - node.start
            held.append((node.start, kv if length == kv.length else kv.view(0, length)))
        at = match.common
        for file, end in plan.files:
            start, part = end - file.length, parts[file]
            if file.kind == "kv" and start <= at < end and isinstance(part, Arrays):
                held.append((at, part if start == at else part.view(at - start, file.length)))
                at = end
        if at < len(plan.tokens):
            return None
        return StoredCache(self.models[name].needs, held, plan, parts)


class StoredCache:
    """What was read, as a cache that parts are taken out of: see `block_tree.Computed`."""

    def __init__(
        self, needs: LayerNeeds, held: Sequence[tuple[int, Arrays]], plan: DiskPlan, parts: Parts
    ) -> None:
        self.window = needs.window
        self.has_state = needs.state
        self.kv = _Pieces(held, len(plan.tokens))
        # From the first tokens on, and the keys and values come in that order by themselves.
        ordered = sorted(plan.files, key=lambda item: item[1])
        windows = [parts[file] for file, _ in ordered if file.kind == "window"]
        self.windows = _joined(cast(list[Arrays], windows)) if windows else Arrays((), 0)
        self.held = min(self.windows.length, self.window)
        self._state = next((part for part in parts.values() if isinstance(part, Whole)), None)

    @property
    def state(self) -> Whole:
        assert self._state is not None, "a plan has the state that its model needs"
        return self._state


class _Pieces:
    """Stretches that follow one another, as one."""

    def __init__(self, held: Sequence[tuple[int, Arrays]], length: int) -> None:
        self._held = held
        self.length = length
        self.nbytes = sum(arrays.nbytes for _, arrays in held)

    def part(self, start: int, end: int) -> Arrays:
        cut = []
        for at, arrays in self._held:
            first, last = max(start, at), min(end, at + arrays.length)
            if first < last:
                whole = last - first == arrays.length
                cut.append(arrays if whole else arrays.view(first - at, last - at))
        return _joined(cut)


class _Reading:
    """The files of a plan, asked for one after the other; lives in the main thread."""

    def __init__(
        self,
        disk: PrefixDisk,
        model: StoredModel,
        plan: DiskPlan,
        *,
        wanted: Callable[[], bool],
        then: Callable[[Parts | None], None],
    ) -> None:
        self._disk, self._model, self._plan = disk, model, plan
        self._wanted, self._then = wanted, then
        self._left = iter(plan.files)
        self._parts: Parts = {}
        self._over = False

    def begin(self) -> None:
        for _ in range(READ_AHEAD):
            self._next()

    def _next(self) -> None:
        file, end = next(self._left, (None, 0))
        if file is not None:
            tokens = self._plan.tokens[end - file.length : end].tobytes()
            self._disk.read(file, tokens, lambda data: self._arrived(file, end, data))

    def _arrived(self, file: SpillFile, end: int, data: SpillData | None) -> None:
        if self._over:
            return
        if data is None or not self._wanted():
            self._over = True
            self._then(None)
            return
        arrays = [
            _array(form, content)
            for form, content in zip(data.header.arrays, data.arrays, strict=True)
        ]
        if file.kind == "state":
            self._parts[file] = self._model.put_together(arrays, data.header.layers)
        else:
            self._parts[file] = Arrays(tuple(arrays), file.length)
        if len(self._parts) == len(self._plan.files):
            self._over = True
            self._then(self._parts)
        else:
            self._next()


def _files(
    model: StoredModel, where: Where, node: Node, *, path: bool
) -> "Iterator[tuple[SpillFile, _Part]]":
    """What is kept of a node, or of its whole `path`, from its beginning on."""
    tokens = np.concatenate([each.tokens for each in node.path])
    first, place = where
    end = first
    for each in node.path:
        start, end = end, end.after(each.tokens.tobytes())
        if not path and each is not node:
            continue
        for kind, part in _parts(model, each, tokens):
            begin = end if kind == "state" else start
            yield SpillFile(*place, kind, end.id, begin.id, len(part.tokens)), part
        for position, note in each.notes.items():
            there = start.after(tokens[each.start : position].tobytes())
            prompt = model.prompt_id(first, RememberedAnswer.noted(note).before)
            file = SpillFile(*place, "answer", there.id, prompt, position)
            yield file, _Part(tokens[:position], note=note)


def _parts(model: StoredModel, node: Node, tokens: Ids) -> "Iterator[tuple[SpillKind, _Part]]":
    """The caches of a node that `tokens` lead to."""
    yield "kv", _Part(node.tokens, cast(Arrays, node.kv).arrays)
    if node.window is not None and node.window.length:
        window = cast(Arrays, node.window)
        yield "window", _Part(tokens[node.end - window.length : node.end], window.arrays)
    apart = model.taken_apart(cast(Whole, node.state)) if node.state is not None else None
    if apart is not None:
        yield "state", _Part(tokens[max(node.end - STATE_TOKENS, 0) : node.end], *apart)


@dataclass(frozen=True)
class _Part:
    """What a file is to hold, as MLX has it; `layers` say how a state is made of the arrays."""

    tokens: Ids
    arrays: Sequence[mx.array] = ()
    layers: Any = None
    note: bytes = b""

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + sum(array.nbytes for array in self.arrays)

    def content(self, file: SpillFile) -> tuple[SpillHeader, list[bytes]]:
        """Copies: the memory of what is evicted must be free when its file is written."""
        forms = tuple(
            ArrayForm(str(array.dtype).rpartition(".")[2], array.shape, array.nbytes)
            for array in self.arrays
        )
        header = SpillHeader(file.place, self.tokens.tobytes(), forms, self.layers, self.note)
        return header, [_bytes(array) for array in self.arrays]


def _bytes(array: mx.array) -> bytes:
    # NumPy has no bfloat16.
    plain = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return memoryview(cast(Any, plain)).tobytes()


def _array(form: ArrayForm, content: memoryview) -> mx.array:
    plain = mx.array(np.frombuffer(content, dtype=np.uint8))
    return plain.view(DTYPES[form.dtype]).reshape(form.shape)


def _joined(stretches: Sequence[Arrays]) -> Arrays:
    if len(stretches) == 1:
        return stretches[0]
    columns = zip(*(stretch.arrays for stretch in stretches), strict=True)
    joined = tuple(mx.concatenate(list(column), axis=-2) for column in columns)
    return Arrays(joined, sum(stretch.length for stretch in stretches))


def _form_of(state: Any, arrays: list[mx.array]) -> Any:
    """A layer's state with the numbers of arrays in place of them; raises `TypeError`."""
    match state:
        case mx.array():
            arrays.append(state)
            return {"array": len(arrays) - 1}
        case list() | tuple():
            return [_form_of(each, arrays) for each in state]
        case None | bool() | int() | float() | str():
            return state
    raise TypeError(f"a state of {type(state).__name__}")


def _filled(empty: Any, form: Any, arrays: Sequence[mx.array]) -> Any:
    """A layer of the class and sizes of `empty` with the state that `form` describes."""

    def state(form: Any) -> Any:
        if isinstance(form, dict):
            return arrays[form["array"]]
        return [state(each) for each in form] if isinstance(form, list) else form

    layer = copy.copy(empty)
    layer.state = state(form)
    return layer


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and their arrays the same objects."""
    if type(one) is not type(other):
        return False
    match one:
        case mx.array():
            return one is other
        case dict():
            return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        case list() | tuple():
            return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
