"""A worker of `track` ends with its parent, also before it has imported PyTorch, which takes seconds."""

import subprocess
import sys

ENDED = """
import sys, threading
from multiprocessing import Pipe
import nncomplexity_launch as launch
end, leash = Pipe(duplex=False)
waiting = threading.Thread(target=launch._end_with, args=(end,))
waiting.start()
print("torch" in sys.modules, flush=True)
leash.close()
waiting.join(60)
"""


def test_it_ends_when_nobody_holds_the_pipe_open() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (1, "False"), done.stderr
