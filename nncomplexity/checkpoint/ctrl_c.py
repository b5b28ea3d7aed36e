"""Ctrl-C while a checkpoint is read ends in KeyboardInterrupt, also if a library turns it into another exception."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ctrl_c_as_such() -> Iterator[None]:
    """A context in which Ctrl-C always ends in KeyboardInterrupt.

    Ctrl-C raises an exception at any point of a library's code, and some code catches all exceptions. PyTorch, for example, then says that it
    could not determine a tensor's shape, and the file would be reported as damaged.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.

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
        yield  # the program has its own handler, which must stay in charge
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
