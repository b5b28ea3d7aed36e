"""Ctrl-C while a checkpoint is read: it ends the reading as such, whatever the libraries that read make of it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ctrl_c_as_such() -> Iterator[None]:
    """What Ctrl-C ends within the block ends in KeyboardInterrupt.

    It comes as an exception in the midst of a library's code, and some of it takes any exception for its own: PyTorch says then that it
    could not determine a tensor's shape, which would be a message on a damaged file.

    Raises:
        KeyboardInterrupt: Ctrl-C came.

    >>> try:
    ...     with ctrl_c_as_such():
    ...         try:
    ...             signal.raise_signal(signal.SIGINT)
    ...         except KeyboardInterrupt:
    ...             raise RuntimeError("could not determine the shape") from None
    ... except KeyboardInterrupt:
    ...     print("interrupted")
    interrupted
    """
    of_main = threading.current_thread() is threading.main_thread()
    if not of_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # what another handler does is its own affair
        return
    came = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except Exception:
        if came:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
