"""Values that hold the tags of their own notation, as rules for llguidance.

The rules are the automaton of `notations.reading.plain_values`: each rule is a state of that
reader, and derives the texts that lead there. A tag is a lazy lexeme of its own with the text
before it; the first that ends counts, so that no expression has to say what a text does not hold.
Only what may not follow a closing tag is an exclusion.

Letters stand for tags: `c` closes a value, `e` a call, `r` a region; `o` opens one of the tool's
own arguments and `u` any other, `f` a call with its first argument, `g` a region.
"""

from collections.abc import Sequence

from mlxd.engine.grammar.plain_values import ANY, SPACES, expression
from mlxd.engine.notations.reading.plain_values import ValueMarks

_ATTRIBUTES = "[^<>]*"
_SOLID = rf"{SPACES}[^ \t\r\n]{ANY}*"


class ValueTags:
    """The tags of a notation as expressions; without `keys` any argument is the tool's own."""

    def __init__(self, marks: ValueMarks, keys: Sequence[str]) -> None:
        self.has_region = marks.region_end != ""
        opening, end = (expression(text) for text in marks.member)
        inside = _ATTRIBUTES if marks.member[1].startswith(">") else "[^<]*"
        value = expression(marks.value)
        self.close, self.call_end = expression(marks.closing), expression(marks.call_end)
        self.region_end = expression(marks.region_end)
        ends = f"({end}|{value})" if value else end
        self.begun = expression(marks.call) + marks.named
        self.member = f"{opening}{inside}{ends}"
        self.call = self.begun + self.member
        self.own = opening + _key(marks, keys) + end
        if value:
            # A key without its closing tag is the tool's whatever it is, if it is one word.
            self.own = rf"({self.own}|{opening}{SPACES}[^< \t\r\n]+{SPACES}{value})"
        self.region = expression(marks.region)
        ends_value = [self.own, self.region_end, expression(marks.whole)]
        ends_value += [] if self.has_region else [self.call_end]
        self.behind_close = "|".join(filter(None, ends_value))
        self.behind_call = "|".join((self.region, expression(marks.call), self.region_end))
        ended = f"{self.call_end}{SPACES}({self.behind_call})" if self.has_region else ""
        self.ending = f"{self.close}{SPACES}({'|'.join(filter(None, (self.behind_close, ended)))})"


def _key(marks: ValueMarks, keys: Sequence[str]) -> str:
    """What stands in the opening tag of an argument of one of `keys`, or of any."""
    named = "|".join(expression(key) for key in sorted(keys))
    if not marks.keyed_by:
        odd = ">" if marks.member[1].startswith(">") else ""
        other = rf"[^<{odd} \t\r\n][^<{odd}]*"
        return f"{SPACES}({named}){SPACES}" if keys else f"{SPACES}{other}"
    attribute = f"{marks.keyed_by}="
    before = "" if marks.member[0].endswith(attribute) else f"{_ATTRIBUTES}[^<>\\w-]{attribute}"
    rest = f"([ \\t\\r\\n\"']{_ATTRIBUTES})?"
    quoted, bare = (f"({named})", f"({named})") if keys else ("[^<>\"']*", "[^<>\"' \\t\\r\\n]+")
    values = [f"{quote}{SPACES}{quoted}{SPACES}{quote}{_ATTRIBUTES}" for quote in "\"'"]
    return f"{before}{SPACES}({'|'.join((*values, bare + rest))})"


class _Lexemes:
    """Writes lexemes on their first use: a tag behind a text of some kind."""

    def __init__(self, tags: ValueTags, name: str, begins: str, first: str) -> None:
        self._tags = tags
        self._name = name
        begin = self._begin = f"/{begins}/ " if begins else ""
        self._written: dict[str, str] = {}
        barred = f" & ~/{first}{ANY}*/" if first else ""
        self._texts = {
            # White space alone; any text; one that begins with nothing that would end the value
            # behind a closing tag, or behind the end of a call; nor with the end of a region.
            "b": f"/{SPACES}/",
            "x": f"/{_SOLID}/",
            "a": f"/{_SOLID}/ & ~/{SPACES}({tags.behind_close}){ANY}*/",
            "g": f"/{_SOLID}/ & ~/{SPACES}({tags.behind_call}){ANY}*/",
            "e": f"/{_SOLID}/ & ~/{SPACES}{tags.region_end}{ANY}*/",
            # The first two where a value begins.
            "y": f"{begin}(/{SPACES}/{barred})",
            "z": f"{begin}(/{_SOLID}/{barred})",
        }
        ends = {"c": tags.close, "e": tags.call_end, "r": tags.region_end}
        ends |= {"o": tags.own, "f": tags.call, "g": tags.region}
        self._ends = {letter: f"/{end}/" for letter, end in ends.items()}
        self._ends["u"] = f"(/{tags.member}/ & ~/{tags.own}/)"

    @property
    def rules(self) -> list[str]:
        return list(self._written.values())

    def add(self, name: str, body: str) -> str:
        """Write a lexeme; returns its name."""
        self._written[name] = f"{name}[lazy]: {body}"
        return name

    def closed(self, name: str, bodies: str) -> str:
        """Write a value of some bodies with its closing tag as one lexeme."""
        return self.add(name, f"{self._begin}({bodies}) /{SPACES}{self._tags.close}/")

    def any_of(self, texts: str, tag: str) -> str:
        """A tag behind one of some texts, each by its letter."""
        return " | ".join(self._lexeme(text, tag) for text in texts)

    def _lexeme(self, text: str, tag: str) -> str:
        # What hangs on the tool's own keys is the tool's, all else is the same for all.
        name = f"{self._name}_{text}{tag}" if tag in "ou" or text == "a" else f"t_{text}{tag}"
        if name in self._written:
            return name
        before = self._terminal("TEXT", text, self._texts[text], own=text == "a")
        if tag in "ou" and text not in "by":
            # Behind the beginning of a call it belongs to that.
            before = f"({before} & ~/{ANY}*{self._tags.begun}/)"
        return self.add(
            name, f"{before} {self._terminal('TAG', tag, self._ends[tag], tag in 'ou')}"
        )

    def _terminal(self, kind: str, letter: str, body: str, own: bool) -> str:
        name = f"{self._name.upper() if own else 'T'}_{kind}_{letter.upper()}"
        self._written.setdefault(name, f"{name}: {body}")
        return name


class ValueTexts:
    """The rules of one tool's texts, each up to the closing tag that ends it.

    `begins` is what its opening tag leaves to come before a value, and `first` what its reader
    would take off the value's beginning.

    A text may hold openings of the tool's own arguments with their closing tags, and calls with
    their ends (`closed`); or an opening that is never closed (`open_ended`). Its reader counts
    closing tags then: other values of the call hold none (`plain`), and those of calls behind it
    none that an own opening or the end of a call stands beside (`calm`). The last value of
    an answer may also begin a call and not end it (`last`).

    All states take all tags, most of them as text: several are tried at once, and the first tag
    that ends counts for all of them.
    """

    def __init__(self, tags: ValueTags, name: str, begins: str = "", first: str = "") -> None:
        self._region = tags.has_region
        self._name = name
        self._begins_late = begins != "" or first != ""
        self._lexemes = _Lexemes(tags, name, begins, first)
        self._ways: dict[str, list[str]] = {}
        self._tags: dict[str, dict[str, dict[str, None]]] = {}
        """The tags that lead to a state, from each other one."""
        self._shown = f"{name}_shown"
        self._torn = f"{name}_torn" if self._region else self._shown
        self.closed, self.open_ended, self.plain, self.calm, self.last = (
            f"{name}_{each}"
            for each in ("closed", "open_ended", "plain", "calm_closed", "last_closed")
        )

    @property
    def call_end(self) -> str:
        """The rule of a call's end."""
        return self._lexemes.any_of("b", "e")

    @property
    def ends(self) -> str:
        """The rule of the end of a call and of its region, if it has one."""
        return f"{self.call_end} {self.region_end}".strip()

    @property
    def region_end(self) -> str:
        """The rule of a region's end; empty where there are no regions."""
        return self._lexemes.any_of("b", "r") if self._region else ""

    @property
    def region(self) -> str:
        """The rule of a region's beginning."""
        return self._lexemes.any_of("b", "g")

    def opening(self, name: str, exact: str) -> str:
        """The rule of an opening tag that comes next: a lexeme, as all tags in values are."""
        return self._lexemes.add(f"{self._name}_{name}", f"/{exact}/")

    def word(self, number: int, bodies: str) -> str:
        """The rule of a value that shows no closing tag, with its own."""
        return self._lexemes.closed(f"{self._name}_word{number}", bodies)

    def rules(self) -> list[str]:
        """All rules; what `call_end` and `ends` name is among them."""
        name, shown, torn = self._name, self._shown, self._torn
        begun, words, last = f"{name}_begun", f"{name}_words", f"{name}_last"
        for call in dict.fromkeys((shown, torn)):
            self._add(f"{call}_text", '""')
            self._inside(call, call, torn=call != shown)
            self._go(f"{call}_closed", "b", e=call)
        paired, quiet = self._pairs(begun)
        self._unclosed(begun, quiet)
        self._add(self.closed, *(f"{each}_closed" for each in (begun, paired, quiet)))
        self._go(words, "bx", c=self.plain, f=f"{words}_call", uoerg=words)
        self._add(words, f"{words}_call {torn}")
        self._calm(f"{name}_calm", words)
        self._inside(last, torn)
        self._go(f"{last}_text", "bx", f=f"{last}_text")
        self._add(f"{last}_text", f"{begun}_call", f"{name}_unclosed_call")
        self._begin(begun, words)
        for target, sources in self._tags.items():
            for source, tags in sources.items():
                self._add(target, f"{source} ({' | '.join(tags)})".strip())
        written = [f"{rule}: {' | '.join(ways)}" for rule, ways in self._ways.items()]
        return [*written, *self._lexemes.rules]

    def _pairs(self, begun: str) -> tuple[str, str]:
        """The states of a text whose own openings are all closed: behind pairs of all kinds, and
        behind those behind which nothing stands that could follow an end.
        """
        name, shown, torn = self._name, self._shown, self._torn
        paired, quiet, still, pair = (
            f"{name}_{each}" for each in ("paired", "quiet", "still", "pair")
        )
        inside = f"{pair}_text"
        self._add(inside, '""', f"{pair}_own {pair}", f"{pair}_call {shown}")
        self._go(inside, "bx", c=pair, o=f"{pair}_own", f=f"{pair}_call", uerg=inside)
        self._add(f"{still}_text", '""', f"{still}_text_call {torn}")
        self._outside(f"{still}_text", close=still)
        self._add(f"{still}_text_closed", f"{still}_text_own {still}")
        self._outside(begun, counted=paired)
        self._add(begun, f"{begun}_call {shown}")
        self._outside(paired)
        self._add(paired, f"{begun}_own {pair}", f"{paired}_own {pair}", f"{paired}_call {shown}")
        self._outside(quiet)
        self._add(quiet, f"{quiet}_call {torn}")
        if self._region:
            self._add(quiet, f"{begun}_call {torn}")
        self._add(f"{quiet}_closed", f"{begun}_own {still}", f"{quiet}_own {still}")
        return paired, quiet

    def _unclosed(self, begun: str, quiet: str) -> None:
        """The states behind an opening that is never closed."""
        unclosed, late, still = (f"{self._name}_{each}" for each in ("unclosed", "late", "still"))
        self._outside(unclosed, close=self.open_ended, counted=late)
        self._add(unclosed, *(f"{each}_own" for each in (begun, quiet, unclosed)))
        for each in (unclosed, late) if self._region else (unclosed,):
            self._add(each, f"{each}_call {self._torn}")
            self._add(f"{each}_closed", f"{each}_own {still}")
        if self._region:
            self._outside(late, close=self.open_ended)
            self._add(late, f"{late}_own")

    def _begin(self, begun: str, words: str) -> None:
        """The beginnings of a text."""
        if not self._begins_late:
            self._add(begun, '""')
            self._add(words, '""')
            return
        ended = f"{begun}_ended" if self._region else begun
        self._go("", "yz", c=f"{begun}_closed", o=f"{begun}_own", f=f"{begun}_call", urg=begun)
        self._go("", "yz", e=ended)
        self._go("", "yz", c=self.plain, f=f"{words}_call", uoerg=words)

    def _calm(self, name: str, words: str) -> None:
        """The states of a text in a call that another one's reader takes for one that is shown."""
        ways = {"c": self.calm, "f": f"{name}_call"}
        self._go(name, "bx", **ways, o=words, uerg=name)
        self._go(self.calm, "ba", **ways, ug=name)
        self._go(self.calm, "a", o=words, er=name)
        self._add(name, f"{name}_call {self._torn}")
        if self._begins_late:
            self._go("", "yz", **ways, o=words, uerg=name)
        else:
            self._add(name, '""')

    def _inside(self, name: str, nested: str, *, torn: bool = False) -> None:
        """The states in a call that a text shows, from behind its first argument's opening on.

        One that is `torn` may also end with its region, without the closing tag of a value.
        """
        text, closed, ended = f"{name}_text", f"{name}_closed", f"{name}_ended"
        ends = ended if self._region else text
        ways = {"c": closed, "f": f"{name}_call"}
        self._add(text, f"{name}_call {nested}")
        self._go(text, "bx", **ways, e=ends, uorg=text)
        self._go(closed, "bx", **ways, uorg=text)
        self._go(closed, "x", e=ends)
        if self._region:
            self._go(ended, "bx" if torn else "be", **ways, e=ends, uog=text)
            self._go(ended, "x" if torn else "e", r=text)
        if torn:
            self._go(ended, "b", r=name)

    def _outside(self, name: str, *, close: str = "", counted: str = "") -> None:
        """The states of a text outside of what it shows; `close` is where its closing tags lead.

        With `counted` the ends of a call and of its region that no closing tag comes before are
        states too: another call behind them makes them more than text for the reader, and leads
        there.
        """
        own, closed, gone, ended, both = (
            f"{name}_{each}" for each in ("own", "closed", "gone", "ended", "both")
        )
        ends = ended if counted and self._region else name
        ways = {"c": close or closed, "f": f"{name}_call"}
        self._go(name, "bx", **ways, o=own, e=ends, urg=name)
        self._go(closed, "ba", **ways, ug=name)
        self._go(closed, "a", o=own, e=ends, r=name)
        if not self._region:
            return
        self._go(closed, "b", e=gone)
        # Right behind the end of a call another one, or its region's end, confirms it.
        self._go(gone, "bg", c=close or closed, o=own, e=ends, u=name)
        self._go(gone, "g", f=f"{name}_call", rg=name)
        if not counted:
            return
        self._go(ended, "bx", **ways, o=own, e=ends, ug=name)
        self._go(ended, "x", r=name)
        self._go(ended, "b", r=both)
        self._go(both, "bg", c=close or closed, o=own, e=ends, u=name)
        self._go(both, "g", f=f"{name}_call", rg=name)
        self._go(both, "b", r=name, g=counted, f=f"{counted}_call")

    def _go(self, source: str, texts: str, **targets: str) -> None:
        """From one state by each of some tags, behind one of some texts, to another."""
        for letters, target in targets.items():
            tags = [tag for tag in letters if tag not in "rg" or self._region]
            found = self._tags.setdefault(target, {}).setdefault(source, {})
            found.update((self._lexemes.any_of(texts, tag), None) for tag in tags)

    def _add(self, rule: str, *ways: str) -> None:
        self._ways.setdefault(rule, []).extend(ways)
