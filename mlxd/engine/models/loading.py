"""Models in memory: verify, load, warm up, unload. Only the engine's main thread may call this."""

import gc
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from mlxd.engine.model_files.windows import stated_window
from mlxd.engine.models.cache_cost import CacheCost, cache_cost
from mlxd.engine.models.quantised_cache import NotQuantisable, quantise_caches
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
MAX_REASON = 160
"""Characters of another library's error that are passed on."""
WARM_UP = 8
"""Tokens of the forward pass that a model has to do before it serves."""
PIECES = 50
"""Reports of how much is read while a model loads."""
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
    """A model that serves: `bytes` of weights, `cache_cost` of its rows.

    `vocab_size` is the length of its logits; no token id may reach it. `scope` is the name that its
    weights go by, where several models have the same.
    """

    spec: ModelSpec
    model: Any
    tokenizer: Any
    config: dict[str, Any]
    context_length: int
    eos_ids: frozenset[int]
    bytes: int
    cache_cost: CacheCost
    vocab_size: int
    format: ModelFormat
    scope: str
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
    check_template_args(spec)
    try:
        with blaming("it can't be loaded", spec, folder):
            advised = advice(folder)
            for fault in advised.faults:
                log.warning("model %s: %s", spec.id, fault)
            with _without_unreadable(folder, advised) as readable:
                return _load(with_advice(spec, advised), readable, make_room, report)
    finally:
        mx.clear_cache()


def renamed(loaded: LoadedModel, spec: ModelSpec) -> LoadedModel:
    """The same weights as another configured model; raises `ModelUnusable`.

    What `spec` says of the window, the sampling and the form of answers is its own.
    """
    folder = locate(spec.source)
    assert folder is not None, "its weights were read from there"
    check_template_args(spec)
    with blaming("it can't be loaded", spec, folder):
        spec = with_advice(spec, advice(folder))
        format_ = _format(spec, loaded.tokenizer)
    return replace(
        loaded,
        spec=spec,
        context_length=_context_length(spec, loaded.config, loaded.tokenizer),
        format=format_,
        dropped=unknown_special_tokens(loaded.tokenizer, format_.markup),
    )


def check_template_args(spec: ModelSpec) -> None:
    """Raise `ModelUnusable` where a chat template would lose what mlxd gives it."""
    if taken := RESERVED.intersection(spec.template_args):
        raise ModelUnusable(spec.id, f"template_args can't set {sorted(taken)[0]!r}")


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
        _quantise_caches(spec, model)
        vocab_size = _warm_up(spec, model)
        cost = cache_cost(model)
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
        cache_cost=cost,
        vocab_size=vocab_size,
        format=format_,
        scope=spec.id,
        dropped=unknown_special_tokens(tokenizer, format_.markup),
        call_tokens=call_tokens(tokenizer, format_.markup) & frozenset(range(vocab_size)),
    )


def adopt(loaded: LoadedModel, spec: ModelSpec) -> None:
    """Take of `spec`, as it is configured now, what needs no loading."""
    folder = locate(loaded.spec.source)
    changed = with_advice(spec, Advice() if folder is None else advice(folder))
    loaded.spec = msgspec.structs.replace(
        loaded.spec,
        max_tokens=changed.max_tokens,
        sampling=changed.sampling,
        stop_repetition=changed.stop_repetition,
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
    if piece:
        report(total, total)


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


def _quantise_caches(spec: ModelSpec, model: Any) -> None:
    if spec.kv_bits is None:
        return
    try:
        quantise_caches(model, spec.kv_bits)
    except NotQuantisable as fault:
        reason = f"it can't have kv_bits = {spec.kv_bits}: {fault}"
        raise ModelUnusable(spec.id, reason) from fault


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
    own = stated_window(config, getattr(tokenizer, "model_max_length", None))
    return min(own, spec.context_length or own)


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
