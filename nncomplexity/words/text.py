"""Lists of names, which stay short, counts of things, exceptions, and forms and shapes of tensors as text."""

from collections.abc import Iterable


def listed(names: Iterable[str], *, most: int = 3, separator: str = ", ") -> str:
    """The first names, and the number of the others.

    >>> listed("abcde"), listed("ab")
    ('a, b, c, and 2 more', 'a, b')
    """
    given = list(names)
    more = [f"and {len(given) - most} more"] if len(given) > most else []
    return separator.join([*map(printable, given[:most]), *more])


def counted(number: int, thing: str) -> str:
    """A number of things whose plural ends with s.

    >>> counted(1, "error"), counted(2553, "unlabelled input")
    ('1 error', '2,553 unlabelled inputs')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def form_in_words(form: str, layout: str | None) -> str:
    """The form of a tensor as text for tables, with its layout if it has an unusual one.

    >>> form_in_words("low_rank", None), form_in_words("low_rank", "axes 0, 2 × 1, 3")
    ('low rank', 'low rank, axes 0, 2 × 1, 3')
    >>> form_in_words("blocks", "2 blocks of rows: low rank 4, zero")
    '2 blocks of rows: low rank 4, zero'
    """
    words = form.replace("_", " ")
    return words if layout is None else layout if form == "blocks" else f"{words}, {layout}"


def shape_in_words(shape: Iterable[int]) -> str:
    """The shape of a tensor as text for tables and messages.

    >>> shape_in_words((3, 32, 32)), shape_in_words(())
    ('3×32×32', 'scalar')
    """
    return "×".join(map(str, shape)) or "scalar"


def or_dash(value: float | None, form: str, dash: str = "–") -> str:
    """A number for a table, or a dash if there is none.

    >>> or_dash(0.125, ".2f"), or_dash(None, ".2f")
    ('0.12', '–')
    """
    return dash if value is None else format(value, form)


def printable(text: str) -> str:
    """The text with escapes instead of control characters. Names come from files that anyone may have written.

    >>> print(printable("layer\\x1b[2J.ε"))
    layer\\x1b[2J.ε
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def text_of(error: BaseException | None) -> str:
    """The message of an exception; empty if the user's class has none, or can't make it.

    >>> text_of(ValueError("no")), text_of(ValueError())
    ('no', '')
    """
    try:
        return "" if error is None else str(error)
    except Exception:  # `__str__` may raise any exception
        return ""


def error_line(error: BaseException) -> str:
    """The type of an exception and its message, in one line.

    >>> error_line(ValueError("no\\nway")), error_line(KeyError())
    ('ValueError: no way', 'KeyError')
    """
    text = " ".join(text_of(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
