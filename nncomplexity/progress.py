"""Progress as one line of text, which terminals and notebooks show alike."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

BAR = 24
EACH_SECONDS = 0.2


def show_progress(stream: TextIO | None = None) -> Callable[[float, float, str], None]:
    """A callback for `estimate(…, progress=show_progress())`: a line that is written anew as the search goes on.

    Args:
        stream: where to write; None is standard error, which a notebook shows below the cell.

    >>> shown = show_progress(sys.stdout)
    >>> shown(3, 12, "moves")  # doctest: +SKIP
    ██████░░░░░░░░░░░░░░░░░░   3 of 12 evaluations, moves, 0 s
    """
    began, last, width = time.monotonic(), -1.0, 0

    def shown(done: float, total: float, what: str) -> None:
        nonlocal last, width
        now = time.monotonic()
        if now - last < EACH_SECONDS and done < total:
            return
        last = now
        full = round(BAR * min(done / total, 1.0)) if total else 0
        line = f"{'█' * full}{'░' * (BAR - full)} {done:3.0f} of {total:.0f} evaluations, {what}, {now - began:.0f} s"
        target = sys.stderr if stream is None else stream
        target.write(f"\r{line:<{width}}" + ("\n" if done >= total else ""))
        target.flush()
        width = 0 if done >= total else len(line)

    return shown
