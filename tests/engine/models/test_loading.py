"""Loading models: whole ones, broken ones, and ones that want to do harm."""

import os
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from mlxd.engine.models.loading import load, unload
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import ModelUnusable
from mlxd.messages import Sampling
from tests.engine.model_files.damage import (
    NORM,
    Damage,
    both,
    code_file,
    cut,
    edit,
    link,
    remove,
    weights,
    write,
)
from tests.tiny_model import (
    CONTEXT_LENGTH,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    OPEN_THINK_TEMPLATE,
    make_tiny_model,
)

pytestmark = pytest.mark.mlx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def spec(folder: Path, **more: Any) -> ModelSpec:
    return ModelSpec(id="tiny", source=str(folder), **more)


INDEX = "model.safetensors.index.json"
BROKEN: dict[str, tuple[Damage, str]] = {
    "no config": (remove("config.json"), "config.json is missing"),
    "empty config": (write("config.json", b""), "config.json is not valid JSON"),
    "config is a list": (write("config.json", b"[]"), "config.json does not hold"),
    "deep config": (write("config.json", b"[" * 100_000), "config.json is not valid JSON"),
    "no model type": (edit("config.json", model_type=None), "no usable model_type"),
    "unknown model type": (
        edit("config.json", model_type="nonsense"),
        "know its model_type 'nonsense'",
    ),
    "no hidden size": (edit("config.json", hidden_size=None), "hidden_size"),
    "wrong hidden size": (edit("config.json", hidden_size=128), "shape"),
    "hidden size is text": (edit("config.json", hidden_size="large"), "config.json don't make"),
    "more layers than weights": (edit("config.json", num_hidden_layers=3), "[Mm]issing"),
    "fewer layers than weights": (edit("config.json", num_hidden_layers=1), "parameters"),
    "no weights": (remove("model.safetensors"), "no model\\*.safetensors"),
    "empty weights": (write("model.safetensors", b""), "model.safetensors is not a whole"),
    "half of the weights": (cut("model.safetensors", 0.5), "model.safetensors is cut off"),
    "no header's end": (cut("model.safetensors", 0.001), "model.safetensors is not a whole"),
    "a tensor is missing": (weights(lambda t: t.pop(NORM)), "[Mm]issing"),
    "a tensor too many": (
        weights(lambda t: t.update(extra=np.ones(3, np.float32))),
        "parameters not in model",
    ),
    "a tensor of another shape": (
        weights(lambda t: t.update({NORM: np.ones(HIDDEN + 1, np.float32)})),
        "shape",
    ),
    "not a number": (
        weights(lambda t: t.update({NORM: np.full(HIDDEN, np.nan, np.float32)})),
        "not finite",
    ),
    "infinite weights": (
        weights(lambda t: t.update({NORM: np.full(HIDDEN, np.inf, np.float32)})),
        "not finite",
    ),
    "a missing shard": (
        lambda folder: (folder / "model.safetensors").rename(
            folder / "model-00001-of-00002.safetensors"
        ),
        "model-00002-of-00002.safetensors is missing",
    ),
    "an index of missing files": (
        write(INDEX, b'{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'),
        "model-00001-of-00001.safetensors is missing",
    ),
    "an index of missing tensors": (
        write(INDEX, b'{"weight_map": {"a": "model.safetensors"}}'),
        "lacks a tensor",
    ),
    "no tokenizer": (remove("tokenizer.json"), "no tokenizer"),
    "half a tokenizer": (cut("tokenizer.json", 0.5), "tokenizer.json is not valid JSON"),
    "a tokenizer of nothing": (write("tokenizer.json", b"{}"), "tokenizer can't be loaded"),
    "damaged tokenizer settings": (
        write("tokenizer_config.json", b"\xff\xfe{}"),
        "tokenizer_config.json is not valid JSON",
    ),
    "a template that is none": (
        edit("tokenizer_config.json", chat_template="{% for %}"),
        "chat template does not work",
    ),
    "a template that always raises": (
        edit("tokenizer_config.json", chat_template="{{ raise_exception('no') }}"),
        "chat template does not work: no",
    ),
    "an unknown parser of calls": (edit("tokenizer_config.json", tool_parser_type="nope"), "nope"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_with_the_name_of_the_file(folder: Path, name: str) -> None:
    damage, reason = BROKEN[name]
    damage(folder)
    with pytest.raises(ModelUnusable, match=reason) as refusal:
        load(spec(folder))
    assert str(folder.parent) not in str(refusal.value)
    assert refusal.value.model == "tiny"


def test_a_missing_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="mlxd pull"):
        load(spec(tmp_path / "nothing"))


def test_a_model_loads_after_broken_ones(folder: Path, tmp_path: Path) -> None:
    for name in ("half of the weights", "not a number"):
        broken = make_tiny_model(tmp_path / "broken")
        BROKEN[name][0](broken)
        with pytest.raises(ModelUnusable):
            load(spec(broken))
    assert load(spec(folder)).vocab_size > 0


AUTO = {"AutoTokenizer": ["evil.Tokenizer", None], "AutoConfig": "evil.Config"}
NAMED = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
HOSTILE: dict[str, Damage] = {
    "model_file": both(code_file("evil.py"), edit("config.json", model_file="evil.py")),
    "model_file outside": edit("config.json", model_file="../evil.py"),
    "model_type as a path": edit("config.json", model_type="../../evil"),
    "model_type as a module": edit("config.json", model_type="os.path"),
    "tokenizer code": both(
        *(code_file("evil.py"), edit("tokenizer_config.json", **NAMED), remove("tokenizer.json")),
        write("vocab.txt", b"a"),
    ),
    "tokenizer code from a hub": both(
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["a/b--evil.Tokenizer", None]}),
        *(remove("tokenizer.json"), write("vocab.txt", b"a")),
    ),
    "template type as a module": edit("tokenizer_config.json", chat_template_type="..utils"),
    "parser type as a module": edit("tokenizer_config.json", tool_parser_type="evil"),
    "template that reaches for Python": edit(
        "tokenizer_config.json",
        chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ),
    "weights in pickles": both(
        remove("model.safetensors"), write("pytorch_model.bin", b"\x80\x04cos\nsystem\n.")
    ),
    "a pickle called safetensors": write("model.safetensors", b"\x80\x04cos\nsystem\n."),
    "weights in GGUF": both(remove("model.safetensors"), write("model.gguf", b"GGUF" * 99)),
    "weights in NPZ": both(remove("model.safetensors"), write("weights.npz", b"PK\x03\x04")),
    "a link out of the folder": link("chat_template.jinja", "/etc/hostname"),
    "weights by a link": link("model.safetensors", "/etc/hostname"),
    "a link to itself": link("extra.json", "extra.json"),
    "a folder by a link": link("more", ".."),
    "a pipe": lambda folder: os.mkfifo(folder / "special_tokens_map.json"),
    "an index that leaves": write(INDEX, b'{"weight_map": {"a": "../model.safetensors"}}'),
}


WATCHED = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system")
_seen: list[str] = []


def _watch(event: str, _: tuple[object, ...]) -> None:
    if event in WATCHED or event.startswith("pickle."):
        _seen.append(event)


sys.addaudithook(_watch)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_and_does_nothing(folder: Path, name: str) -> None:
    HOSTILE[name](folder)
    modules = set(sys.modules)
    _seen.clear()
    with pytest.raises(ModelUnusable) as refusal:
        load(spec(folder))
    assert _seen == []
    assert str(folder.parent) not in str(refusal.value)
    assert not list(folder.parent.rglob("harm"))
    assert not [module for module in set(sys.modules) - modules if "evil" in module]


def test_code_that_nothing_needs_is_left_alone(folder: Path) -> None:
    # Many models carry code for other programs; mlx-lm and the tokenizer file do without.
    code_file("evil.py")(folder)
    edit("config.json", auto_map=AUTO)(folder)
    edit("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.Tokenizer"]})(folder)
    assert load(spec(folder)).vocab_size > 0
    assert not list(folder.rglob("harm"))


def test_links_into_the_hub_cache_are_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    made = make_tiny_model(tmp_path / "made")
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(made.iterdir())):
        path.rename(repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert load(spec(snapshot)).bytes > 0


def test_ends_that_are_no_tokens_of_the_model_are_left_out(folder: Path) -> None:
    named = b'{"eos_token_id": [7, 1000000000, -1, null, "8", true]}'
    write("generation_config.json", named)(folder)
    loaded = load(spec(folder))
    assert loaded.eos_ids == {7, loaded.tokenizer.eos_token_id}


def test_a_loaded_model_knows_its_measures(folder: Path) -> None:
    loaded = load(spec(folder))
    vocabulary = loaded.tokenizer.get_vocab()
    assert loaded.context_length == CONTEXT_LENGTH
    assert loaded.vocab_size == len(vocabulary)
    assert loaded.eos_ids == {vocabulary["<|im_end|>"], vocabulary["<|endoftext|>"]}
    assert loaded.bytes == sum(
        array.nbytes for array in load_file(folder / "model.safetensors").values()
    )
    assert loaded.kv_bytes_per_token == 2 * LAYERS * KV_HEADS * (HIDDEN // HEADS) * 4
    assert loaded.markup.reasoning == (("<think>", "</think>"),)
    assert loaded.markup.tool_format == "json_tools"
    assert loaded.traits.thinking_switch == "enable_thinking"


def test_the_window_is_the_smallest_that_is_set(folder: Path) -> None:
    assert load(spec(folder, context_length=100)).context_length == 100
    assert load(spec(folder, context_length=10**6)).context_length == CONTEXT_LENGTH
    edit("tokenizer_config.json", model_max_length=512)(folder)
    assert load(spec(folder)).context_length == 512
    edit("tokenizer_config.json", model_max_length=int(1e30))(folder)
    assert load(spec(folder)).context_length == CONTEXT_LENGTH
    edit("config.json", max_position_embeddings=1024)(folder)
    assert load(spec(folder)).context_length == 1024


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms compute half precision fast")
def test_small_half_precision_models_become_float32_on_cpus(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, dtype="float16")
    dtype = load(spec(folder)).model.model.norm.weight.dtype
    assert dtype == mx.float32
    kept = load(spec(folder, dtype="float16")).model.model.norm.weight.dtype
    assert kept == mx.float16
    assert load(spec(folder, dtype="bfloat16")).model.model.norm.weight.dtype == mx.bfloat16


def test_the_configuration_outranks_what_is_found(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, template=OPEN_THINK_TEMPLATE)
    markup = load(spec(folder, tool_format="pythonic", reasoning_tags=("<a>", "</a>"))).markup
    assert (markup.tool_format, markup.reasoning) == ("pythonic", (("<a>", "</a>"),))


def test_template_arguments_can_not_replace_the_conversation(folder: Path) -> None:
    with pytest.raises(ModelUnusable, match="template_args can't set 'messages'"):
        load(spec(folder, template_args={"messages": "x"}))


HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")


@pytest.mark.parametrize(
    ("template", "special", "expected"),
    [
        ("{{ messages }}<tool_call>", (), "json_tools"),
        ("{{ messages }}{{ tools }}<|python_tag|>", (), "llama3_json"),
        ("{{ messages }}{{ tools }}<\uff5ctool\u2581calls\u2581begin\uff5c>", (), "deepseek"),
        ("{{ messages }}{{ tools }}[TOOL_CALLS]", (), "mistral"),
        ("{{ messages }}{{ tools }}<arg_key>", (), "glm47"),
        ("{{ messages }}{{ tools }}", HARMONY, "harmony"),
        ("{{ messages }}{{ tools }}", (), None),
        ("{{ messages }}", (), "json_tools"),
    ],
)
def test_the_notation_of_calls_is_found(
    tmp_path: Path, template: str, special: tuple[str, ...], expected: str | None
) -> None:
    loaded = load(spec(make_tiny_model(tmp_path, template=template, extra_special=special)))
    assert loaded.markup.tool_format == expected
    assert bool(loaded.markup.structural) == bool(special)


def test_a_model_without_a_chat_template_gets_a_plain_one(folder: Path) -> None:
    edit("tokenizer_config.json", chat_template=None)(folder)
    assert load(spec(folder)).traits.users_in_row


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_broken_advice_file_is_told_and_no_obstacle(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write("generation_config.json", content)(folder)
    assert load(spec(folder)).vocab_size > 0
    assert "generation_config.json" in caplog.text


def test_a_models_file_beats_what_is_built_in_and_the_configuration_beats_the_file(
    folder: Path,
) -> None:
    edit("generation_config.json", temperature=0.6, top_p=0.9, top_k=20)(folder)
    usual = Sampling(temperature=0.7, top_p=0.95, min_p=0.0)
    loaded = load(spec(folder, sampling=Sampling(top_k=5), usual_sampling=usual))
    assert loaded.spec.sampling == Sampling(0.6, 0.9, 5, 0.0)


def test_unloading_frees_the_weights(folder: Path) -> None:
    load(spec(folder))
    mx.clear_cache()
    before = mx.get_active_memory()
    loaded = load(spec(folder))
    assert mx.get_active_memory() >= before + loaded.bytes
    unload(loaded)
    assert mx.get_active_memory() <= before
