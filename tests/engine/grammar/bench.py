"""A tokenizer that knows the markers of all families, and walks through grammars with it."""

import random
from pathlib import Path

import numpy as np
from mlx_lm.utils import load_tokenizer

from mlxd.engine.grammar.constrainer import Constrainer, SteeringRecipe
from mlxd.engine.interface import Markup
from mlxd.engine.prompt.builder import PromptBuilder
from mlxd.engine.protocol import ModelSpec
from tests.tiny_model import make_tiny_model

MARKERS = (
    *("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>"),
    *("<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|open|>", "<|close|>", "<|sep|>"),
    *("<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581calls\u2581end\uff5c>"),
    *("<\uff5ctool\u2581call\u2581begin\uff5c>", "<\uff5ctool\u2581call\u2581end\uff5c>"),
    *("<\uff5ctool\u2581sep\uff5c>", "[TOOL_CALLS]", "<|tool_call>", "<tool_call|>"),
    *("<start_function_call>", "<end_function_call>", "<|tool_call_start|>", "<|tool_call_end|>"),
    *("]<]minimax[>[", "\uff5cDSML\uff5c"),
)
MORE = 100
"""Tokens that a call may take beyond the shortest one."""


class Bench:
    """A tokenizer that knows the markers of all families."""

    def __init__(self, folder: Path) -> None:
        make_tiny_model(folder, extra_special=tuple(dict.fromkeys(MARKERS)))
        self.tokenizer = load_tokenizer(folder)
        self.size = len(self.tokenizer.get_vocab())
        self.builder = PromptBuilder(
            self.tokenizer, ModelSpec(id="tiny", source=str(folder)), 2048, vocab_size=self.size
        )
        self.ends = [self.tokenizer.convert_tokens_to_ids("<|im_end|>")]

    def constrainer(self, tool_format: str) -> Constrainer:
        self.builder.markup = Markup((), tool_format)
        return Constrainer(self.tokenizer, self.builder, ends=self.ends, vocab_size=self.size)

    def walk(self, recipe: SteeringRecipe, rng: random.Random) -> tuple[str, bool]:
        """A random text of the grammar, and whether it ended by itself."""
        assert recipe.grammar is not None
        assert recipe.grammar.shortest is not None
        room = len(recipe.grammar.shortest) + MORE
        steering, taken = recipe.start(room), list[int]()
        while len(taken) < room:
            mask = steering.allowed()
            assert mask is not None
            assert not steering.fault
            token = int(rng.choice(np.flatnonzero(mask)))
            token = steering.settle(token) if steering.settles else token
            steering.took(token)
            if token in self.ends:
                return self.tokenizer.decode(taken), True
            taken.append(token)
        return self.tokenizer.decode(taken), False
