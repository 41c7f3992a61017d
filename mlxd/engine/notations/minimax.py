"""MiniMax's calls: tags with the names in attributes."""

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.tags import Tags, tag_starts

_TAGS = Tags(
    call="<invoke name=",
    call_end="</invoke>",
    param="<parameter name=",
    param_end="</parameter>",
    region="<minimax:tool_call>",
    region_end="</minimax:tool_call>",
    named_by="name",
    keyed_by="name",
)

MINIMAX_M2 = Notation(
    "minimax_m2",
    Form(
        ('<invoke name="{name}">\n', "</invoke>\n"),
        region=("<minimax:tool_call>\n", "</minimax:tool_call>"),
        json=False,
        member=('<parameter name="{key}">', "</parameter>\n"),
        marks=_TAGS.marks,
    ),
    tag_starts(_TAGS),
)
