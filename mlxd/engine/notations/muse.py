"""Muse's calls: tags in messages whose headers name their recipient."""

from collections.abc import Mapping

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.headers import Headers, MessageRoute, Place, recipient
from mlxd.engine.notations.reading.schema import ANY
from mlxd.engine.notations.reading.tags import Tags, tag_starts

_TAGS = Tags(
    call="<atem:invoke",
    call_end="</atem:invoke>",
    param="<atem:parameter",
    param_end="</atem:parameter>",
    region="<atem:function_calls>",
    region_end="</atem:function_calls>",
    named_by="name",
    keyed_by="name",
    unknown=ANY,
    untyped=ANY,
)

_PLACES: Mapping[str, Place] = {"self": "reasoning", "user": "plain"}
"""What is for the user can explain a call but makes none: those are for a tool."""

MUSE_SPARK = Notation(
    "muse_spark",
    Form(
        ('<atem:invoke name="{name}">\n', "</atem:invoke>\n"),
        region=("<atem:function_calls>\n", "</atem:function_calls>"),
        json=False,
        member=('<atem:parameter name="{key}">', "</atem:parameter>\n"),
        marks=_TAGS.marks,
    ),
    tag_starts(_TAGS),
    bare=None,
    headers=Headers(
        begins=("<|start|>", "<|message|>", "assistant", "to="),
        opens=("<|start|>",),
        closes=("<|eom|>", "<|eot|>"),
        route=lambda header: MessageRoute(_PLACES.get(recipient(header), "text")),
    ),
)
