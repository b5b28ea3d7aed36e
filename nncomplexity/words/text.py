"""Names and forms in words: lists that are short however many there are, and what becomes of a tensor."""

from collections.abc import Iterable


def listed(names: Iterable[str], *, most: int = 3, separator: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> listed("abcde"), listed("ab")
    ('a, b, c, and 2 more', 'a, b')
    """
    given = list(names)
    more = [f"and {len(given) - most} more"] if len(given) > most else []
    return separator.join([*map(printable, given[:most]), *more])


def form_in_words(form: str, layout: str | None) -> str:
    """What became of a tensor, as tables say it: its form, and its layout where it has one of its own.

    >>> form_in_words("low_rank", None), form_in_words("low_rank", "axes 0, 2 × 1, 3")
    ('low rank', 'low rank, axes 0, 2 × 1, 3')
    >>> form_in_words("blocks", "2 blocks of rows: low rank 4, zero")
    '2 blocks of rows: low rank 4, zero'
    """
    told = form.replace("_", " ")
    return told if layout is None else layout if form == "blocks" else f"{told}, {layout}"


def printable(text: str) -> str:
    """The text with escapes in place of what a terminal would act on: names come from files of anyone's.

    >>> print(printable("layer\\x1b[2J.ε"))
    layer\\x1b[2J.ε
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
