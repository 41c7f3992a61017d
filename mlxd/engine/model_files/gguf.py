"""The demo model's GGUF file as a folder in mlx-lm's format. Nothing here imports MLX.

Knows what that file needs and no more: the llama architecture with SmolLM's byte-level tokenizer.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

Field = Callable[[str], Any]
"""The value of a metadata key, None where there is none."""

GLOBAL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL, USER_DEFINED = 3, 4
"""Kinds of tokens in GGUF that are added to the tokenizer's own."""


def convert(gguf: Path, folder: Path) -> None:
    """Write `gguf` as float32 into `folder`; raises `ValueError` for a file it does not know."""
    reader = GGUFReader(str(gguf))

    def field(key: str) -> Any:
        found = reader.fields.get(key)
        return None if found is None else found.contents()

    if field("general.architecture") != "llama" or field("tokenizer.ggml.pre") != "smollm":
        raise ValueError("not a SmolLM of the llama architecture")
    folder.mkdir(parents=True, exist_ok=True)
    weights = _weights(reader, field)
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    _tokenizer(field).save(str(folder / "tokenizer.json"))
    _write(folder / "tokenizer_config.json", _tokenizer_config(field))
    _write(folder / "config.json", _config(field, tied="lm_head.weight" not in weights))


def _weights(reader: GGUFReader, field: Field) -> dict[str, NDArray[np.float32]]:
    heads = {
        "attn_q": field("llama.attention.head_count"),
        "attn_k": field("llama.attention.head_count_kv"),
    }
    weights = {}
    for tensor in reader.tensors:
        shape = [int(side) for side in reversed(tensor.shape)]
        values = dequantize(tensor.data, tensor.tensor_type).reshape(shape).astype(np.float32)
        stem, kind = str(tensor.name).rsplit(".", 1)
        layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
        if layer is None:
            name = GLOBAL[stem]
        else:
            name = f"model.layers.{layer[1]}.{LAYER[layer[2]]}"
            if layer[2] in heads:
                # Rotary pairs lie side by side in GGUF; mlx-lm wants all firsts, then all seconds.
                pairs = values.reshape(heads[layer[2]], -1, 2, values.shape[1])
                values = pairs.swapaxes(1, 2).reshape(values.shape)
        weights[f"{name}.{kind}"] = np.ascontiguousarray(values)
    return weights


def _config(field: Field, *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "max_position_embeddings": field("llama.context_length"),
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
    }


def _tokenizer(field: Field) -> Tokenizer:
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE(vocab={text: i for i, text in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = {
        kind: [
            AddedToken(text, special=kind == CONTROL, normalized=False)
            for text, its_kind in zip(tokens, kinds, strict=True)
            if its_kind == kind
        ]
        for kind in (CONTROL, USER_DEFINED)
    }
    tokenizer.add_special_tokens(added[CONTROL])
    tokenizer.add_tokens(added[USER_DEFINED])
    return tokenizer


def _tokenizer_config(field: Field) -> dict[str, Any]:
    end = field("tokenizer.ggml.tokens")[field("tokenizer.ggml.eos_token_id")]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": end,
        "pad_token": end,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": field("llama.context_length"),
        "chat_template": field("tokenizer.chat_template"),
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
