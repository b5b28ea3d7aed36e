"""Lists of names in messages, short however many there are."""

from collections.abc import Iterable


def listed(names: Iterable[str], *, most: int = 3, separator: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> listed("abcde"), listed("ab")
    ('a, b, c, and 2 more', 'a, b')
    """
    given = list(names)
    more = [f"and {len(given) - most} more"] if len(given) > most else []
    return separator.join([*given[:most], *more])
