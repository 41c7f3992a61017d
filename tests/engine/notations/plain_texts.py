"""Values of every notation that writes texts as they are: made of its own tags, and of calls."""

import json
import random
from collections.abc import Sequence

from mlxd.engine.notations.reading.plain_values import ValueMarks
from mlxd.engine.notations.table import NOTATIONS
from mlxd.events import FinishReason
from mlxd.messages import Tool
from tests.engine.texts import THINK, Given, request

SCHEMA = {"properties": {"path": {"type": "string"}, "text": {"type": "string"}}}
SAVE = Tool(name="save", parameters=json.dumps(SCHEMA))
LAMP = Tool(name="lamp", parameters='{"properties": {"room": {"type": "string"}}}')
PLAIN = {name: each.form for name, each in NOTATIONS.items() if each.form.marks is not None}
NAMES = sorted(PLAIN.keys() - {"laguna"})  # It is read as GLM's.

Member = tuple[str, str]


def given(
    notation: str, reason: FinishReason = "stop", tools: Sequence[Tool] = (SAVE, LAMP)
) -> Given:
    return Given(notation, THINK, reason=reason, asked=request(tools))


def marks_of(notation: str) -> ValueMarks:
    marks = PLAIN[notation].marks
    assert marks is not None
    return marks


def written(notation: str, *calls: tuple[str, Sequence[Member]], region: bool = True) -> str:
    """Calls as the notation's form has them, each of a tool and its members."""
    form = PLAIN[notation]
    texts = []
    for name, members in calls:
        values = (form.member[0].format(key=key) + value + form.member[1] for key, value in members)
        texts.append(form.call[0].format(name=name) + "".join(values) + form.call[1].format())
    text = form.region[0] + form.between.join(texts) + form.region[1]
    return text if region else text.replace(marks_of(notation).region or "\0", "", 1).lstrip()


def tags_of(notation: str) -> list[str]:
    """The notation's own tags, whole and in halves, with parameters known and unknown."""
    form, marks = PLAIN[notation], marks_of(notation)
    openings = [form.member[0].format(key=key).strip() for key in ("path", "text", "x")]
    call = form.call[0].format(name="save").strip()
    whole = [marks.closing, call, marks.call_end, marks.region, marks.region_end, *openings]
    return [tag for tag in whole if tag] + [marks.closing[:-1], openings[0][:-1], "]]>"]


def shown(chance: random.Random, notation: str) -> str:
    """A call as a document shows it: of any tool, with or without its region, once more inside."""
    name = chance.choice(("save", "lamp", "nobody"))
    inner = shown(chance, notation) if chance.random() < 0.2 else chance.choice(("hi", "a\nb", ""))
    members = [
        (key, inner) for key in chance.sample(("text", "path", "zone"), chance.randint(1, 3))
    ]
    return written(notation, (name, members), region=chance.random() < 0.7)


def value(chance: random.Random, notation: str, *, openings: bool = True) -> str:
    """A value of random pieces; none that could as well be the end of one and what follows it."""
    marks, tags = marks_of(notation), tags_of(notation)
    tags = tags if openings else [tag for tag in tags if marks.call not in tag]
    behind = (marks.member[0], marks.call_end, marks.region_end or marks.call_end)
    text, plain = "", ""
    for _ in range(chance.randint(0, 8)):
        piece = chance.choice((*tags, "word", " ", "\n", "\n\n", "<p>", 'it\'s "so" é\\n'))
        if chance.random() < 0.1:
            piece, plain = "\n" + shown(chance, notation) + "\n", "example "
        elif plain.rstrip().endswith(marks.closing) and piece.startswith(behind):
            piece = "and " + piece
        text, plain = text + piece, plain + piece
    return f"So {text} there" if text.endswith(marks.closing[:-1]) else f"So {text}"


# What stands in a value where C is the closing tag, P and Q are openings of the tool's parameters,
# U of one that it lacks, F of a call, and E and R the ends of a call and of its region.
FILES = (
    *("C", "C C", "<job>C", "C first", "<job>U7C</job>", "<a>C\n<b>\n  C</b>", "half C", "C\n\nC"),
    *(
        "U7C\nU8C",
        "E",
        "R",
        "E R and on",
        "C so E R",
        "P",
        "say P here",
        "P1C and\nQ2C",
        "P1C\nQ2C",
    ),
    *(
        "F it",
        "F P like this",
        "F P\nhi\nC E R is it",
        "F P hi",
        "F P a C P b C E so",
        "E R so F P",
    ),
)


def file(notation: str, pattern: str) -> str:
    """A value written as a pattern of letters."""
    form, marks = PLAIN[notation], marks_of(notation)
    tags = {
        **{
            letter: form.member[0].format(key=key)
            for letter, key in zip("PQU", ("path", "text", "x"), strict=True)
        },
        **{"C": marks.closing, "F": form.call[0].format(name="lamp")},
        **{"E": marks.call_end, "R": marks.region_end},
    }
    return "".join(tags.get(letter, letter) for letter in pattern)
