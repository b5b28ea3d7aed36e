"""Control characters made visible: names come from files of anyone's, and a page may be read in a terminal."""

import re

_CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")
_PICTURES, _DELETE = 0x2400, 0x2421
"""Unicode has a picture of each of the first 32, and one of DEL."""


def inert(html: str) -> str:
    """The page without control characters but for line feeds and tabs: their pictures in place of those that have one.

    >>> inert("a\\x1b[2Jb\\x9b")
    'a␛[2Jb�'
    """
    return _CONTROLS.sub(lambda found: _picture(ord(found[0])), html)


def _picture(code: int) -> str:
    if code == 0x7F:
        return chr(_DELETE)
    return chr(_PICTURES + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"
