"""Makes control characters visible. Names come from files that anyone may have written, and a page may be read in a terminal."""

import re

_CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")
_PICTURES, _DELETE = 0x2400, 0x2421
"""The pictures that Unicode has: one for each of the first 32 characters, from the first number on, and one for DEL."""


def inert(html: str) -> str:
    """The page with pictures instead of control characters. Line feeds and tabs stay. A character without a picture becomes �.

    >>> inert("a\\x1b[2Jb\\x9b")
    'a␛[2Jb�'
    """
    return _CONTROLS.sub(lambda found: _picture(ord(found[0])), html)


def _picture(code: int) -> str:
    if code == 0x7F:
        return chr(_DELETE)
    return chr(_PICTURES + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"
