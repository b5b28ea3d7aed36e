"""The start of the console script, outside the package: importing the package loads PyTorch, and Ctrl-C must work during that time."""

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Load the command line and run it. Ctrl-C during loading gives one line and the same exit code as later."""
    # A shell may run this program in the background with Ctrl-C ignored; the handler is then not Python's own.
    minded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if minded:
        signal.signal(signal.SIGINT, _end)
    from nncomplexity.cli import main as run

    if minded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    # The packages that are being imported could swallow an exception, or turn it into another one.
    os.write(2, b"nncomplexity: interrupted\n")
    os._exit(_INTERRUPTED)
