"""Fonts for texts in any script: fonts of the machine with the characters that the usual font doesn't have."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nncomplexity.show.plots.lettering import weightless
from nncomplexity.words import listed

_STAND_INS = ("last resort", "lastresort")
"""Fonts that draw the same box for every character of a script."""
_SCRIPTS = {"CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
"""By the first word of the Unicode name of a character."""
_FONTS = {**dict.fromkeys(_SCRIPTS.values(), "Noto Sans CJK"), "emoji": "Noto Emoji"}


@dataclass(frozen=True)
class Fonts:
    """The fonts for drawing texts."""

    families: tuple[str, ...]
    """In the order of preference: first the user's own font, which is DejaVu Sans by default."""
    missing: str
    """The characters that no font has."""
    postscript: bool
    """Whether a font has PostScript outlines, which matplotlib can't embed in a PDF (fonttype 42)."""


def fonts_for(texts: Iterable[str]) -> Fonts:
    """The fonts of the machine for these texts."""
    from matplotlib import rcParams

    families, postscript = list(rcParams["font.family"]), False
    missing = _seen(texts).difference(*map(_characters_of_family, families))
    # The machine is searched for new font files only if the listed ones don't have all characters.
    for fonts_of in (_known_fonts, _new_fonts):
        fonts = fonts_of() if missing else {}
        characters = {family: _characters(path) for family, path in fonts.items()}
        while missing and fonts:
            # The font with most of the missing characters comes first, so that few fonts are needed.
            family = max(fonts, key=lambda one: len(characters[one] & missing))
            covered, path = characters[family] & missing, fonts.pop(family)
            if not covered:
                break
            if _draws(path, covered):
                families.append(family)
                missing -= covered
                postscript |= _postscript(path)
    return Fonts(tuple(families), "".join(sorted(map(chr, missing))), postscript)


def missing_sentence(characters: str) -> str:
    """What to do about characters that no font has, in one line.

    >>> missing_sentence("权")
    'no font on this machine has the character 权 (Chinese or Japanese); install one, such as Noto Sans CJK, or write .svg, which needs none'
    """
    scripts = dict.fromkeys(_script(one) for one in characters)
    fonts = dict.fromkeys(_FONTS.get(script, f"Noto Sans {script}") for script in scripts)
    several = "s" if len(characters) > 1 else ""
    return (
        f"no font on this machine has the character{several} {listed(characters, most=8)} ({listed(scripts, most=9)}); "
        f"install one, such as {listed(fonts, most=9)}, or write .svg, which needs none"
    )


def _seen(texts: Iterable[str]) -> set[int]:
    """The visible characters: with combining marks, without joiners and variation selectors."""
    return {ord(one) for text in texts for one in text if not one.isspace() and not (weightless(one) and _invisible(one))}


def _invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF


def _characters_of_family(family: str) -> set[int]:
    from matplotlib import font_manager

    try:
        return _characters(font_manager.findfont(font_manager.FontProperties(family=[family]), fallback_to_default=False))
    except ValueError:  # the machine doesn't have the family
        return set()


def _characters(path: str) -> set[int]:
    """The code points for which a font has a glyph. Empty if the font can't be read."""
    from matplotlib import font_manager

    try:
        return set(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return set()


def _known_fonts() -> dict[str, str]:
    """One upright font file of medium weight for each family that matplotlib knows."""
    from matplotlib import font_manager

    found: dict[str, str] = {}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: (entry.style != "normal", abs(_weight(entry) - 400))):
        if not entry.name.lower().startswith(_STAND_INS):
            found.setdefault(entry.name, entry.fname)
    return found


def _new_fonts() -> dict[str, str]:
    """Families of font files that matplotlib didn't know yet. It knows them from now on."""
    from matplotlib import font_manager

    before = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in before:
            try:
                font_manager.fontManager.addfont(path)
            except Exception:  # matplotlib can't read every kind of font, and may raise anything
                continue
    known = _known_fonts()
    return {family: path for family, path in known.items() if path not in before}


def _weight(entry: Any) -> int:
    from matplotlib.font_manager import weight_dict

    return entry.weight if isinstance(entry.weight, int) else weight_dict.get(entry.weight, 400)


def _draws(path: str, characters: set[int]) -> bool:
    """Whether the font has an outline for the first of the characters.

    Fonts that contain only pictures, such as coloured emoji, have none.
    """
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(path)
        font.set_size(10, 72)
        font.load_char(min(characters))
        return len(font.get_path()[0]) > 0
    except (OSError, RuntimeError, ValueError):
        return False


def _postscript(path: str) -> bool:
    """Whether a file has CFF outlines, from its first bytes, or for a collection from those of its first font."""
    with Path(path).open("rb") as file:
        first = file.read(16)
        if first[:4] == b"ttcf":
            file.seek(int.from_bytes(first[12:16], "big"))
            first = file.read(4)
    return first[:4] == b"OTTO"


def _script(character: str) -> str:
    """The usual name of a character's script, from the first word of its Unicode name."""
    word = unicodedata.name(character, "unnamed").split()[0]
    return _SCRIPTS.get(word, "emoji" if unicodedata.category(character) == "So" else word.capitalize())
