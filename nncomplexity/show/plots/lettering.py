"""How much room texts take, in whatever script: full-width characters are wider than letters, combining marks take none."""

import unicodedata

from nncomplexity.words import printable

FULL_WIDTH = 1.6
"""The width of a Chinese, Japanese or Korean character beside an average letter's."""
_NO_WIDTH = {"Mn", "Me", "Cf"}
"""Categories of characters that stand on or between others: accents, vowel signs, joiners, variation selectors."""


def breadth(text: str) -> float:
    """How wide a text is, in letters.

    >>> breadth("loss"), breadth("权重"), breadth("e\\u0301")
    (4.0, 3.2, 1.0)
    """
    return sum((FULL_WIDTH if unicodedata.east_asian_width(one) in "WF" else 1.0) for one in text if not weightless(one))


def weightless(character: str) -> bool:
    """Whether it takes no room of its own."""
    return unicodedata.category(character) in _NO_WIDTH


def wrapped(text: str, width: float) -> list[str]:
    """The text in lines of at most so many letters, broken at blanks, and within a word only where it is longer than a line.

    >>> wrapped("Several seeds of one checkpoint", 16)
    ['Several seeds of', 'one checkpoint']
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if breadth(joined) <= width:
            line = joined
            continue
        lines += [line] if line else []
        line, room = "", 0.0
        for character in word:
            size = breadth(character)
            if room + size > width:
                lines.append(line)
                line, room = "", 0.0
            line, room = line + character, room + size
    return [*lines, line] if line else lines


def shortened(text: str, width: float) -> str:
    """The text, or as much of its end as fits into so many letters: paths differ there.

    >>> shortened("runs/first/checkpoints", 12)
    '…checkpoints'
    """
    if breadth(text) <= width:
        return text
    room, start = 0.0, len(text)
    while start and room + (size := breadth(text[start - 1])) <= width - 1:
        room, start = room + size, start - 1
    return f"…{text[start:]}"


def one_line(text: str) -> str:
    """A name as a picture shows it: what would break its line, or is no character to be seen, as an escape."""
    return "".join(one if weightless(one) else printable(one) for one in text)
