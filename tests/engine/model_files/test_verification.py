"""The headers of weights files, damaged in many ways: none may reach MLX and break it."""

import json
import random
import struct
from pathlib import Path

import mlx.core as mx
import pytest
from safetensors.numpy import load_file

from mlxd.engine.model_files.verification import MAX_FILES, MAX_JSON, check
from mlxd.errors import ModelUnusable
from tests.engine.model_files.damage import NORM, Damage, header, write
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


HEADERS: dict[str, Damage] = {
    "overlap": header(lambda h: h[NORM].update(data_offsets=h["lm_head.weight"]["data_offsets"])),
    "backwards": header(lambda h: h[NORM]["data_offsets"].reverse()),
    "negative": header(lambda h: h[NORM].update(data_offsets=[-256, 0])),
    "beyond the end": header(lambda h: h[NORM].update(data_offsets=[10**9, 10**9 + 256])),
    "huge": header(lambda h: h[NORM].update(shape=[2**62, 4], data_offsets=[0, 2**64])),
    "unknown type": header(lambda h: h[NORM].update(dtype="F1")),
    "another size": header(lambda h: h[NORM].update(dtype="F64")),
    "shape of text": header(lambda h: h[NORM].update(shape=["64"])),
    "shape of many": header(lambda h: h[NORM].update(shape=[1] * 5000 + [64])),
    "no shape": header(lambda h: h[NORM].pop("shape")),
    "entry is text": header(lambda h: h.update({NORM: "x"})),
    "metadata is a list": header(lambda h: h.update(__metadata__=[])),
    "a hole": header(lambda h: h.pop(NORM)),
    "no length": write("model.safetensors", b"\x00" * 7),
    "a length of all": write("model.safetensors", b"\xff" * 8 + b"{}"),
    "a name twice": write("model.safetensors", struct.pack("<Q", 13) + b'{"a":1,"a":1}'),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_wrong_header_is_refused_before_mlx_reads_it(folder: Path, name: str) -> None:
    HEADERS[name](folder)
    with pytest.raises(ModelUnusable, match="model.safetensors"):
        check(folder, "tiny")


def test_no_damage_to_a_header_gets_past_the_check_and_breaks_mlx(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    draw = random.Random(3)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(8 + length)] = draw.randrange(256)
        path.write_bytes(data)
        try:
            check(folder, "tiny")
        except ModelUnusable:
            refused += 1
        else:
            mx.eval(mx.load(str(path)))
    assert refused > 200


def test_what_is_no_folder_or_can_not_be_read_is_refused(folder: Path) -> None:
    with pytest.raises(ModelUnusable, match="its folder is missing"):
        check(folder / "nothing", "tiny")
    with pytest.raises(ModelUnusable, match="its folder is missing"):
        check(folder / "config.json", "tiny")
    with (folder / "config.json").open("wb") as file:
        file.truncate(MAX_JSON + 1)
    with pytest.raises(ModelUnusable, match=r"config\.json is too large"):
        check(folder, "tiny")


def test_a_folder_with_any_number_of_files_is_not_walked_for_ever(folder: Path) -> None:
    (folder / "more").mkdir()
    for number in range(MAX_FILES):
        (folder / "more" / str(number)).touch()
    with pytest.raises(ModelUnusable, match="too many files"):
        check(folder, "tiny")


def test_weights_that_mlx_saved_without_metadata_are_taken(folder: Path) -> None:
    weights = folder / "model.safetensors"
    arrays = {name: mx.array(array) for name, array in load_file(weights).items()}
    mx.save_safetensors(str(weights), arrays)
    check(folder, "tiny", trust_remote_code=False)


def test_weights_may_be_linked_from_elsewhere_and_nothing_else(folder: Path) -> None:
    shared = folder.parent / "shared" / "some.safetensors"
    shared.parent.mkdir()
    weights = folder / "model.safetensors"
    weights.rename(shared)
    weights.symlink_to(shared)
    check(folder, "m")
    cached = folder.parent / "models--a--b" / "blobs" / "0123"
    cached.parent.mkdir(parents=True)
    (folder / "tokenizer.json").rename(cached)
    (folder / "tokenizer.json").symlink_to(cached)
    check(folder, "m")
    secret = folder.parent / "secret.json"
    secret.write_text("{}")
    (folder / "notes.json").symlink_to(secret)
    with pytest.raises(ModelUnusable, match="notes.json is a link to a place outside"):
        check(folder, "m")


def test_a_type_that_mlx_lm_does_not_know_is_refused_and_renamed_ones_are_not(folder: Path) -> None:
    def typed(kind: str) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))

    for known in ("llama", "mistral", "kimi_k2", "bailing_hybrid"):
        typed(known)
        check(folder, "m")
    typed("zorblax")
    with pytest.raises(ModelUnusable, match=r"mlx-lm [\d.]+ does not know its model_type 'zorb"):
        check(folder, "m")
