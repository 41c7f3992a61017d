"""MiniCPM's calls: tags with the names in attributes, and values that may stand in CDATA."""

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.tags import Tags, tag_starts

_TAGS = Tags(
    call="<function name=",
    call_end="</function>",
    param="<param name=",
    param_end="</param>",
    named_by="name",
    keyed_by="name",
    cdata=True,
)

MINICPM5 = Notation(
    "minicpm5",
    Form(
        ('<function name="{name}">', "</function>"),
        between="\n",
        json=False,
        member=('<param name="{key}">', "</param>"),
        marks=_TAGS.marks,
        # A value that begins so would be read as one in CDATA.
        forbidden=("<![CDATA[",),
    ),
    tag_starts(_TAGS),
)
