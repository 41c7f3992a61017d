"""All notations of tool calls: the one place besides the settings that lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from mlxd.engine.notations.apertus import APERTUS
from mlxd.engine.notations.bare_json import BARE_JSON
from mlxd.engine.notations.deepseek import DEEPSEEK, DEEPSEEK_V4, DEEPSEEK_V32
from mlxd.engine.notations.gemma import FUNCTION_GEMMA, GEMMA4
from mlxd.engine.notations.glm import GLM47, HY3, LAGUNA, LONGCAT
from mlxd.engine.notations.harmony import HARMONY
from mlxd.engine.notations.json_lists import (
    COHERE,
    COMMAND_R_PLUS,
    GIGACHAT,
    GRANITE,
    GRANITE_20B,
    HUNYUAN,
    INTERNLM2,
    MINIMAX_M1,
    NEMOTRON,
    PHI4,
)
from mlxd.engine.notations.kimi import KIMI_K2, KIMI_K3
from mlxd.engine.notations.llama import FUNCTIONARY_V3, LLAMA3_JSON
from mlxd.engine.notations.minicpm import MINICPM5
from mlxd.engine.notations.minimax import MINIMAX_M2, MINIMAX_M3
from mlxd.engine.notations.mistral import MISTRAL
from mlxd.engine.notations.muse import MUSE_SPARK
from mlxd.engine.notations.notation import Notation
from mlxd.engine.notations.pythonic import BARE_PYTHONIC, OLMO3, PYTHONIC
from mlxd.engine.notations.qwen import HERMES, JSON_TOOLS, QWEN3_CODER, SEED_OSS
from mlxd.engine.notations.reading.calls import CallReader
from mlxd.engine.notations.solar import SOLAR

DESCRIBED = JSON_TOOLS
"""The notation in which a model is asked to call tools that its template has no place for."""

# Where a chat template has the signs of several, the first counts: what many templates hold, such
# as `<tool_call>`, comes behind what only one family has.
NOTATIONS: Mapping[str, Notation] = MappingProxyType(
    {
        notation.name: notation
        for notation in (
            *(HARMONY, DEEPSEEK, DEEPSEEK_V32, DEEPSEEK_V4, COHERE, NEMOTRON, GIGACHAT, APERTUS),
            *(PHI4, MINIMAX_M3, SEED_OSS, LLAMA3_JSON, KIMI_K2, KIMI_K3, MISTRAL, PYTHONIC),
            *(GEMMA4, FUNCTION_GEMMA, MINIMAX_M2, MINICPM5, MUSE_SPARK, OLMO3, BARE_PYTHONIC),
            *(HY3, SOLAR, INTERNLM2, GRANITE_20B, COMMAND_R_PLUS, FUNCTIONARY_V3),
            *(GRANITE, HUNYUAN, MINIMAX_M1, GLM47, LAGUNA, LONGCAT, QWEN3_CODER),
            *(JSON_TOOLS, HERMES, BARE_JSON),
        )
    }
)
"""The notations by the name that `tool_format` gives them."""


def notation_named(name: str | None) -> Notation:
    """The notation of this name; calls in bare JSON where it is none that is known."""
    return NOTATIONS.get(name or "", BARE_JSON)


def read_as(name: str | None, also: Sequence[str] = ()) -> Notation:
    """As `notation_named`, with the markers of other notations that a model may fall into."""
    notation = notation_named(name)
    starts: dict[str, CallReader] = {}
    for other in also:
        starts |= notation_named(other).starts
    return replace(notation, starts={**starts, **notation.starts}) if also else notation
