"""Durations, as they are typed and shown."""

import itertools
import re

from nncomplexity.errors import InputError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d+)?)")


def seconds_of(text: str, argument: str) -> float:
    """Seconds of a duration: `90s`, `10m`, `1h`, `2d`, `1:30:00`, `5:00`, or seconds.

    Raises:
        InputError: the text is no duration, or the duration is zero; the message names the argument.

    >>> [seconds_of(text, "--time-limit") for text in ("90s", "1.5h", "1:30:00", "5:00", "30")]
    [90.0, 5400.0, 5400.0, 300.0, 30.0]
    """
    seconds = 0.0
    if found := _WITH_UNIT.fullmatch(text.strip()):
        seconds = float(found[1]) * _UNITS[found[2] or "s"]
    elif found := _CLOCK.fullmatch(text.strip()):
        seconds = 3600 * float(found[1] or 0) + 60 * float(found[2]) + float(found[3])
    if not 0 < seconds < float("inf"):
        raise InputError(f"{argument}: expected a time above 0, such as 90s, 10m, 1h, 1:30:00 or seconds, got {text!r}")
    return seconds


def duration_in_words(seconds: float) -> str:
    """A duration as text, in its two largest units.

    >>> duration_in_words(42.4), duration_in_words(600), duration_in_words(5400), duration_in_words(90061)
    ('42 s', '10 min', '1 h 30 min', '1 d 1 h')
    """
    if 0 < seconds < 1:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in itertools.pairwise(units):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{whole} s"
