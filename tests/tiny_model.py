"""A random-weight language model in mlx-lm's folder format, made in a fraction of a second.

A two-layer llama with a byte-level tokenizer: every text round-trips, a handful of whole words are
tokens of their own (with and without a leading space), and the chat markup is in the vocabulary.
The same arguments give the same bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

CONTEXT_LENGTH = 2048
HIDDEN, LAYERS, HEADS, KV_HEADS, INTERMEDIATE = 64, 2, 4, 2, 128
WORDS = (" the", " is", " of", " France", "France", " Paris", "Paris", "Hello", " world", " and")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>"),
    *("<tool_response>", "</tool_response>"),
)

CHATML_TEMPLATE = r"""
{%- set lead = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if lead or tools -%}
    {{- '<|im_start|>system\n' + lead -}}
    {%- if tools -%}
        {{- ('\n\n' if lead else '') + '# Tools\n\nYou may call these functions:\n<tools>\n' -}}
        {%- for tool in tools %}{{ (tool | tojson) + '\n' }}{% endfor -%}
        {{- '</tools>\n\nAnswer with a call like this:\n<tool_call>\n' -}}
        {{- '{"name": <name>, "arguments": <arguments>}\n</tool_call>' -}}
    {%- endif -%}
    {{- '<|im_end|>\n' -}}
{%- endif -%}
{%- set seen = namespace(query=-1) -%}
{%- for message in messages -%}
    {%- if message.role == 'user' %}{% set seen.query = loop.index0 %}{% endif -%}
{%- endfor -%}
{%- for message in messages -%}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\n' -}}
        {%- if message.reasoning_content and loop.index0 > seen.query -%}
            {{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' -}}
        {%- endif -%}
        {{- message.content or '' -}}
        {%- for tool_call in message.tool_calls or [] -%}
            {%- if message.content or not loop.first %}{{ '\n' }}{% endif -%}
            {%- set tool_call = tool_call.function or tool_call -%}
            {{- '<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' -}}
            {%- if tool_call.arguments is string -%}
                {{- tool_call.arguments -}}
            {%- else -%}
                {{- tool_call.arguments | tojson -}}
            {%- endif -%}
            {{- '}\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\n' -}}
    {%- elif message.role == 'tool' -%}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}
            {{- '<|im_start|>user' -}}
        {%- endif -%}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}
            {{- '<|im_end|>\n' -}}
        {%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
    {%- if enable_thinking is defined and not enable_thinking -%}
        {{- '<think>\n\n</think>\n\n' -}}
    {%- endif -%}
{%- endif -%}
"""
OPEN_THINK_TEMPLATE = CHATML_TEMPLATE.replace(
    r"{{- '<think>\n\n</think>\n\n' -}}",
    r"{{- '<think>\n\n</think>\n\n' -}}{%- else -%}{{- '<think>\n' -}}",
)
"""As `CHATML_TEMPLATE`, but the prompt itself opens `<think>` unless thinking is switched off."""


def make_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    template: str = CHATML_TEMPLATE,
    extra_special: Sequence[str] = (),
    extra_tokens: Sequence[str] = (),
    dtype: Literal["float32", "float16"] = "float32",
    heads: tuple[int, int] = (HEADS, KV_HEADS),
) -> Path:
    """Write the model into `folder` (made if it is missing) and return it.

    `extra_special` are more control tokens, `extra_tokens` more tokens that count as text.
    `heads` are those of queries and of keys: (2, 1) has twice as many values in each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(extra_special, extra_tokens)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = tokenizer.get_vocab()
    _write(folder / "tokenizer_config.json", _tokenizer_config(template))
    _write(folder / "config.json", _config(ids, dtype, heads))
    _write(
        folder / "generation_config.json",
        {"eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]},
    )
    weights = {name: value.astype(dtype) for name, value in _weights(len(ids), seed).items()}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    return folder


def _tokenizer(extra_special: Sequence[str], extra_tokens: Sequence[str]) -> Tokenizer:
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        spelt = word.replace(" ", "Ġ")
        for end in range(1, len(spelt)):
            merge = (spelt[:end], spelt[end])
            if merge not in merges:
                merges.append(merge)
    pieces += dict.fromkeys(left + right for left, right in merges)
    vocab = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special, markup = (*SPECIAL, *extra_special), (*MARKUP, *extra_tokens)
    tokenizer.add_special_tokens([_added(text, special=True) for text in special])
    tokenizer.add_tokens([_added(text, special=False) for text in markup])
    return tokenizer


def _added(text: str, *, special: bool) -> AddedToken:
    return AddedToken(text, special=special, normalized=False)


def _tokenizer_config(template: str) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT_LENGTH,
        "chat_template": template,
    }


def _config(ids: dict[str, int], dtype: str, heads: tuple[int, int]) -> dict[str, object]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT_LENGTH,
        "vocab_size": len(ids),
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
    }


def _weights(vocab: int, seed: int) -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return draw.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)

    ones = np.ones(HIDDEN, dtype=np.float32)
    kv = HIDDEN // HEADS * KV_HEADS
    weights = {
        "model.embed_tokens.weight": matrix(vocab, HIDDEN) * 8,
        "model.norm.weight": ones,
        "lm_head.weight": matrix(vocab, HIDDEN) * 2,
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        weights |= {
            at + "input_layernorm.weight": ones,
            at + "post_attention_layernorm.weight": ones,
            at + "self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            at + "self_attn.k_proj.weight": matrix(kv, HIDDEN),
            at + "self_attn.v_proj.weight": matrix(kv, HIDDEN),
            at + "self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            at + "mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            at + "mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            at + "mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
        }
    return weights


def _write(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
