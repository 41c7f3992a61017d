"""Models in memory: verify, load, warm up, unload. Only the engine's main thread may call this."""

import gc
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model, load_tokenizer

from mlxd import called
from mlxd.engine.interface import Markup
from mlxd.engine.model_files.generation_config import FILE, Advice, advice
from mlxd.engine.model_files.library import locate
from mlxd.engine.model_files.verification import Unusable, check, read_object
from mlxd.engine.prompt.chat_template import ChatTemplate, TemplateFault
from mlxd.engine.prompt.markup_detection import ModelFormat, read_format
from mlxd.engine.prompt.special_tokens import call_tokens, unknown_special_tokens
from mlxd.engine.prompt.template_traits import TemplateTraits
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import ModelUnusable

log = logging.getLogger(__name__)

SMALL = 4 * 1024**3
"""Bytes of float32 weights up to which an unquantised model is cast on CPUs: there only float32
products go through BLAS."""
UNKNOWN_CONTEXT = 8192
"""Tokens of window of a model that states none."""
MAX_REASON = 160
"""Characters of another library's error that are passed on."""
MIN_CONTEXT, MAX_CONTEXT = 16, 100_000_000
"""Windows that are meant: tokenizers write huge numbers for "no limit"."""
CONTEXT_KEYS = ("max_position_embeddings", "max_sequence_length", "max_seq_len", "n_positions")
WARM_UP = 8
"""Tokens of the forward pass that a model has to do before it serves."""
PIECES = 50
"""Reports of how much is read while a model loads."""
STRIDE = 1024
"""Tokens between two measurements of a KV cache."""
NO_MEMORY = re.compile(
    r"\[\S*malloc\S*\]|unable to allocate|out of ?memory|insufficient memory|bad_alloc", re.I
)
"""What MLX's allocators and Metal's and CUDA's drivers say when there is no memory."""
RESERVED = frozenset(
    {"messages", "conversation", "tools", "tokenize", "chat_template", "add_generation_prompt"}
    | {"continue_final_message", "return_tensors", "return_dict", "padding", "truncation"}
)
"""Names that a chat template's arguments may not have."""


@dataclass(eq=False)
class LoadedModel:
    """A model that serves: `bytes` of weights, `kv_bytes_per_token` of a growing KV cache.

    `vocab_size` is the length of its logits; no token id may reach it.
    """

    spec: ModelSpec
    model: Any
    tokenizer: Any
    config: dict[str, Any]
    context_length: int
    eos_ids: frozenset[int]
    bytes: int
    kv_bytes_per_token: int
    vocab_size: int
    format: ModelFormat
    dropped: Mapping[int, str] = field(default_factory=dict)
    """The special tokens that have no text in answers."""
    call_tokens: frozenset[int] = frozenset()
    """Those that open a call."""

    @property
    def markup(self) -> Markup:
        """How its text is read."""
        return self.format.markup

    @property
    def traits(self) -> TemplateTraits:
        """What its chat template takes."""
        return self.format.traits


def load(
    spec: ModelSpec,
    make_room: Callable[[int], None] = lambda needed: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> LoadedModel:
    """Bring a model into memory and try it; raises `ModelUnusable` with nothing left behind.

    `make_room` gets the bytes of its weights before they are read, and may raise; `report` gets now
    and then how many of all bytes are read.
    """
    folder = locate(spec.source)
    if folder is None:
        raise ModelUnusable(spec.id, f"it is not on this machine; `{called()} pull {spec.source}`")
    check(folder, spec.id, trust_remote_code=spec.trust_remote_code)
    if taken := RESERVED.intersection(spec.template_args):
        raise ModelUnusable(spec.id, f"template_args can't set {sorted(taken)[0]!r}")
    try:
        with blaming("it can't be loaded", spec, folder):
            advised = advice(folder)
            for fault in advised.faults:
                log.warning("model %s: %s", spec.id, fault)
            with _without_unreadable(folder, advised) as readable:
                return _load(with_advice(spec, advised), readable, make_room, report)
    finally:
        mx.clear_cache()


def unload(loaded: LoadedModel) -> None:
    """Free a model's memory, also where someone still holds the object."""
    loaded.model.clear()
    loaded.tokenizer = None
    gc.collect()
    # MLX keeps freed buffers for itself, and the next model may need their memory.
    mx.clear_cache()


def _load(
    spec: ModelSpec,
    folder: Path,
    make_room: Callable[[int], None],
    report: Callable[[int, int], None],
) -> LoadedModel:
    with blaming("its weights and config.json don't make a model", spec, folder):
        # Lazy, so that it is known how large it is before there has to be memory for it.
        model, config = load_model(folder, lazy=True, trust_remote_code=spec.trust_remote_code)
        if (dtype := _dtype(spec, model, config)) is not None:
            model.set_dtype(dtype)
        model.eval()
        make_room(_bytes(model.parameters()))
        _read(model.parameters(), report)
        vocab_size = _warm_up(spec, model)
        kv_bytes = kv_bytes_per_token(model)
    with blaming("its tokenizer can't be loaded", spec, folder):
        tokenizer = load_tokenizer(
            folder,
            {"trust_remote_code": spec.trust_remote_code, "local_files_only": True},
            eos_token_ids=config.get("eos_token_id"),
        )
    format_ = _format(spec, tokenizer)
    return LoadedModel(
        spec=spec,
        model=model,
        tokenizer=tokenizer,
        config=config,
        context_length=_context_length(spec, config, tokenizer),
        eos_ids=_eos_ids(folder, tokenizer, vocab_size),
        bytes=_bytes(model.parameters()),
        kv_bytes_per_token=kv_bytes,
        vocab_size=vocab_size,
        format=format_,
        dropped=unknown_special_tokens(tokenizer, format_.markup),
        call_tokens=call_tokens(tokenizer, format_.markup) & frozenset(range(vocab_size)),
    )


def with_advice(spec: ModelSpec, advised: Advice) -> ModelSpec:
    """A model's settings with the sampling that is used where a request says nothing."""
    sampling = spec.sampling.merged(advised.sampling).merged(spec.usual_sampling)
    return msgspec.structs.replace(spec, sampling=sampling)


@contextmanager
def _without_unreadable(folder: Path, advised: Advice) -> Iterator[Path]:
    """`folder`, or one that lacks the file with the advice: mlx-lm would fail at it."""
    if advised.readable:
        yield folder
        return
    with tempfile.TemporaryDirectory() as view:
        for path in folder.iterdir():
            if path.name != FILE:
                (Path(view) / path.name).symlink_to(path.absolute())
        yield Path(view)


def _read(parameters: Any, report: Callable[[int, int], None]) -> None:
    """Compute the weights, which reads them, a piece after the other."""
    arrays = [leaf for _, leaf in tree_flatten(parameters) if isinstance(leaf, mx.array)]
    total = sum(array.nbytes for array in arrays)
    done, piece = 0, 0
    for number, array in enumerate(arrays):
        piece += array.nbytes
        if piece * PIECES >= total:
            mx.eval(arrays[: number + 1])
            done, piece = done + piece, 0
            report(done, total)
    mx.eval(parameters)


@contextmanager
def blaming(fault: str, spec: ModelSpec, folder: Path | None = None) -> Iterator[None]:
    """Turn whatever goes wrong inside into `ModelUnusable` with `fault` as its reason.

    mlx-lm and the tokenizers raise what they like for files that don't fit together, and a module
    that lacks a package may call `exit`, which must not end the process with all other models.
    """
    try:
        yield
    except ModelUnusable:
        raise
    except BaseException as error:
        log.debug("loading %s failed", spec.id, exc_info=True)
        where = folder or Path(spec.source)
        raise ModelUnusable(spec.id, f"{fault}: {_reason(error, where)}") from error


def _dtype(spec: ModelSpec, model: Any, config: dict[str, Any]) -> mx.Dtype | None:
    """What to cast the weights to, if anything."""
    if spec.dtype is not None:
        named: mx.Dtype = getattr(mx, spec.dtype)
        return named
    quantised = "quantization" in config or "quantization_config" in config
    if quantised or mx.default_device() != mx.Device(mx.cpu):
        return None
    parameters = sum(array.size for _, array in tree_flatten(model.parameters()))
    return mx.float32 if 4 * parameters <= SMALL else None


def _warm_up(spec: ModelSpec, model: Any) -> int:
    """A small forward pass; gives the length of the logits.

    A damaged file often computes something that is not a number, silently.
    """
    cache = make_prompt_cache(model)
    logits = model(mx.arange(WARM_UP)[None], cache=cache)
    # A vocabulary may be masked with minus infinity in part.
    spoilt = mx.any(mx.isnan(logits)) | mx.any(logits == mx.inf) | ~mx.any(mx.isfinite(logits))
    if spoilt.item():
        raise ModelUnusable(spec.id, "it computes values that are not finite numbers")
    return int(logits.shape[-1])


def kv_bytes_per_token(model: Any) -> int:
    """How much a KV cache grows with each token once its sliding windows are full, at least 1.

    Nothing is computed: MLX knows the shapes of what it was not asked for yet.
    """
    cache = make_prompt_cache(model)
    # The first growth may be a sliding window that fills up; the second one goes on for ever.
    sizes: list[int] = []
    for _ in range(3):
        model(mx.zeros((1, STRIDE), dtype=mx.int32), cache=cache)
        sizes.append(sum(layer.nbytes for layer in cache))
    # A recurrent state does not grow at all.
    return max(1, int(sizes[2] - sizes[1]) // STRIDE)


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array))


def _format(spec: ModelSpec, tokenizer: Any) -> ModelFormat:
    found = read_format(tokenizer, spec)
    content: Any = [{"type": "text", "text": "Hello"}] if found.traits.content_parts else "Hello"
    try:
        ChatTemplate(tokenizer).render([{"role": "user", "content": content}], open_answer=True)
    except TemplateFault as fault:
        raise ModelUnusable(spec.id, f"its chat template does not work: {fault}") from fault
    if found.answer.problem:
        log.warning("%s: %s", spec.id, found.answer.problem)
    return found


def _context_length(spec: ModelSpec, config: dict[str, Any], tokenizer: Any) -> int:
    """The smallest window that the configuration, the model or its tokenizer sets."""
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    named = [section.get(key) for section in sections for key in CONTEXT_KEYS]
    known = next((value for value in named if _window(value) is not None), None)
    limits = [_window(known), _window(getattr(tokenizer, "model_max_length", None))]
    own = min((limit for limit in limits if limit is not None), default=UNKNOWN_CONTEXT)
    return min(own, spec.context_length or own)


def _window(value: object) -> int | None:
    """`value` as a number of tokens, if it is one that was meant."""
    if isinstance(value, int | float) and MIN_CONTEXT <= value <= MAX_CONTEXT:
        return int(value)
    return None


def _eos_ids(folder: Path, tokenizer: Any, vocab_size: int) -> frozenset[int]:
    """Tokens that end an answer, from every file that names some."""
    # Files disagree, and with one end too few an answer runs on to its limit.
    found = set(tokenizer.eos_token_ids)
    for name in ("config.json", "generation_config.json"):
        try:
            named = read_object(folder / name).get("eos_token_id")
        except (OSError, Unusable):
            continue
        found.update(named if isinstance(named, list) else [named])
    return frozenset(id_ for id_ in found if type(id_) is int and 0 <= id_ < vocab_size)


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an allocation has failed: MLX throws C++ runtime errors for it."""
    # Any other error may hold "memory" in words of its own.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
    )


def _reason(error: BaseException, folder: Path) -> str:
    """What went wrong in one short line, with names of files in place of paths."""
    # mlx-lm calls a model type unknown when its module lacks a package.
    if isinstance(error.__cause__, ImportError) and not _is_unknown_type(error.__cause__):
        error = error.__cause__
    words = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, Exception):
        words = f"its code ends the process ({type(error).__name__}: {words})"
    if "custom code" in words:
        return "it wants to run code of its own; set trust_remote_code for a model that you trust"
    # Callers may see it, and a path says who runs the server.
    words = words.replace(f"{folder}/", "").replace(str(folder), folder.name)
    short = " ".join(_without_path(word) for word in words.split(" "))
    return short if len(short) <= MAX_REASON else f"{short[:MAX_REASON]}..."


def _is_unknown_type(error: ImportError) -> bool:
    return isinstance(error, ModuleNotFoundError) and str(error.name).startswith("mlx_lm.models.")


def _without_path(word: str) -> str:
    path = word.lstrip("'\"([").rstrip("'\")]:,.")
    return word.replace(path, Path(path).name) if path.startswith("/") and path != "/" else word
