"""Where the console script begins: outside the package, whose import brings PyTorch's, so that Ctrl-C is minded from the start."""

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Load the command line and run it. Ctrl-C while it loads is one line and the exit code that it has later."""
    # It isn't Python's own where a shell has us in the background, and Ctrl-C ignored.
    minded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if minded:
        signal.signal(signal.SIGINT, _end)
    from nncomplexity.cli import main as run

    if minded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    # An exception could be swallowed, or become another one, in the packages that are being imported.
    os.write(2, b"nncomplexity: interrupted\n")
    os._exit(_INTERRUPTED)
