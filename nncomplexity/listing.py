"""Lists of names in messages, short however many there are."""

from collections.abc import Iterable


def listed(names: Iterable[str], *, most: int = 3, separator: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> listed("abcde"), listed("ab")
    ('a, b, c, and 2 more', 'a, b')
    """
    given = list(names)
    more = [f"and {len(given) - most} more"] if len(given) > most else []
    return separator.join([*map(printable, given[:most]), *more])


def printable(text: str) -> str:
    """The text with escapes in place of what a terminal would act on: names come from files of anyone's.

    >>> print(printable("layer\\x1b[2J.ε"))
    layer\\x1b[2J.ε
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
