"""Where the console script and the processes of `LocalPool` begin.

It is outside the package and imports nothing but Python's own modules. So Ctrl-C is minded from the start, and no process outlives the one
that started it.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import FrameType

_WRONG_CALL = 2
_INTERRUPTED = 130


def main() -> int:
    """Load the command line and run it. Ctrl-C during loading gives one line and the same exit code as later.

    A needed package that is missing gives one line too.
    """
    try:
        with ctrl_c_ends():
            # By its name: seen as an import, it would be one of the command line by the wing that starts processes, and a cycle.
            cli = importlib.import_module("nncomplexity.cli")
    except ModuleNotFoundError as error:
        print(f"nncomplexity: {missing(error)}", file=sys.stderr)
        return _WRONG_CALL
    return int(cli.main())


def missing(error: ModuleNotFoundError) -> str:
    """A sentence on a package that could not be imported. An import error of this package's own modules is raised again."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "nncomplexity"):
        raise error
    return f"the package {package!r} is missing, which nncomplexity needs; install it with pip, and see nncomplexity doctor"


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """Within the block Ctrl-C ends the process at once, with one line: for imports, which could make anything of an exception."""
    # A shell may run this program in the background with Ctrl-C ignored; the handler is then not Python's own.
    minded = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if minded:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if minded:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    # The packages that are being imported could swallow an exception, or turn it into another one.
    os.write(2, b"nncomplexity: interrupted\n")
    os._exit(_INTERRUPTED)


def begin_worker(end: Connection, *given: object) -> None:
    """What a process of `LocalPool` does first. It ends as soon as nobody holds the other `end` of a pipe open any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one ends the others
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()
    from nncomplexity.workers.local import begin

    begin(*given)  # type: ignore[arg-type]


def _end_with(end: Connection) -> None:
    try:
        end.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
