"""Redact a secret in foreign text, even if it was escaped or its case was changed on the way.

Servers and proxies echo what they receive in JSON strings, HTML pages and URLs, sometimes one in
another. Decoding the text, instead of matching all forms at once, keeps the search linear.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from string import ascii_lowercase, ascii_uppercase
from typing import Final
from urllib.parse import unquote_plus

import attrs

REDACTED: Final = "***"

# Such as a JSON string in an HTML attribute in a URL.
_MOST_LAYERS: Final = 3
# An escape sequence that the end cuts at each layer is shorter than this, all together.
_LONGEST_CUT_ESCAPES: Final = 64
_LAST_ASCII: Final = 0x7F

_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)

# Of every kind, only what stands for visible ASCII in lower-cased text.
_CODE: Final = "([2-7][0-9a-f])"
_PERCENT: Final = re.compile(f"%{_CODE}")
_BACKSLASH: Final = re.compile(rf"\\(?:u00{_CODE}|x{_CODE}|([!-/:-@\[-`{{-~]))")
_HTML: Final = re.compile(rf"&(?:#x0{{0,8}}{_CODE}|#0{{0,8}}(\d{{2,3}})|([a-z]{{2,8}}));")

# https://html.spec.whatwg.org/multipage/named-characters.html
_NAMES: Final[Mapping[str, str]] = dict(
    zip(
        (  # noqa: SIM905 - a list would take forty lines
            "excl quot num dollar percnt amp apos lpar rpar ast plus comma period sol colon semi lt"
            " equals gt quest commat lsqb bsol rsqb hat lowbar grave lcub verbar rcub midast lbrack"
            " rbrack lbrace vert rbrace"
        ).split(),
        "!\"#$%&'()*+,./:;<=>?@[\\]^_`{|}*[]{|}",
        strict=True,
    )
)


def redact(text: str, secret: str, *, is_cut: bool = False) -> str:
    """Return `text` with every form of the secret replaced by ``***``.

    Args:
        text: The text.
        secret: Visible ASCII; an empty one is nowhere.
        is_cut: Whether `text` is the start of a longer text. Its last characters are left out then,
            as they may be the start of the secret.
    """
    if not secret:
        return text
    readings = list(_readings(text, secret))
    end = min(reading.safe_end for reading in readings) if is_cut else len(text)
    pieces: list[str] = []
    shown = 0
    for first, last in _merge(span for reading in readings for span in reading.find()):
        if first < end:
            pieces += [text[shown:first], REDACTED]
            shown = last
    return "".join([*pieces, text[shown:end]])


@attrs.frozen
class _Reading:
    """A lower-cased text after some escape sequences were decoded.

    Attributes:
        text: The decoded text.
        starts: Where each of its characters starts in the original text, and where that ends.
        needles: The forms of the secret to look for.
    """

    text: str
    starts: Sequence[int]
    needles: frozenset[str]

    @property
    def safe_end(self) -> int:
        """Where a secret that the end of the text cuts may begin, in the original text."""
        hidden = max(map(len, self.needles)) + _LONGEST_CUT_ESCAPES
        return self.starts[max(0, len(self.text) - hidden)]

    def find(self) -> Iterator[tuple[int, int]]:
        """Yield where the secret is in the original text."""
        for needle in self.needles:
            found = self.text.find(needle)
            while found >= 0:
                end = found + len(needle)
                yield self.starts[found], self.starts[end]
                found = self.text.find(needle, end)

    def decode(self, escape: re.Pattern[str]) -> "_Reading":
        """Return a reading with the escape sequences of one kind decoded."""
        # A secret that looks escaped may have been left alone, or decoded along with the text.
        forms = (escape.sub(_character, needle) for needle in self.needles)
        needles = self.needles.union(form for form in forms if form != " ")
        pieces: list[str] = []
        starts: list[int] = []
        end = 0
        for match in escape.finditer(self.text):
            pieces += [self.text[end : match.start()], _character(match)]
            kept = match.start() + len(pieces[-1])
            starts += self.starts[end:kept]
            end = match.end()
        text = "".join([*pieces, self.text[end:]])
        return _Reading(text, [*starts, *self.starts[end:]], needles)


def _readings(text: str, secret: str) -> Iterator[_Reading]:
    lowered = secret.translate(_LOWER)
    # A server that decodes a form turns a plus sign into a space.
    decoded = unquote_plus(secret).translate(_LOWER)
    needles = frozenset({lowered, lowered.replace("+", " "), decoded} - {" "})
    layer = [_Reading(text.translate(_LOWER), range(len(text) + 1), needles)]
    seen: set[tuple[str, frozenset[str]]] = set()
    for _ in range(1 + _MOST_LAYERS):
        new = {(reading.text, reading.needles): reading for reading in layer}
        layer = [reading for key, reading in new.items() if key not in seen]
        seen |= new.keys()
        yield from layer
        layer = [
            reading.decode(escape)
            for reading, escape in product(layer, (_PERCENT, _BACKSLASH, _HTML))
            if escape.search(reading.text)
        ]


def _character(escape: re.Match[str]) -> str:
    """Return the lower-cased character that an escape sequence stands for, or itself if unknown."""
    if escape.re is _PERCENT:
        return chr(int(escape[1], 16)).lower()
    if escape.re is _BACKSLASH:
        code = escape[1] or escape[2]
        return escape[3] or chr(int(code, 16)).lower()
    if escape[3]:
        return _NAMES.get(escape[3], escape[0])
    code = int(escape[1], 16) if escape[1] else int(escape[2])
    return chr(code).lower() if code <= _LAST_ASCII else escape[0]


def _merge(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield spans in order, overlapping ones as one."""
    ordered = sorted(spans)
    if not ordered:
        return
    first, last = ordered[0]
    for start, end in ordered[1:]:
        if start >= last:
            yield first, last
            first, last = start, end
        last = max(last, end)
    yield first, last
