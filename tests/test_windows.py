"""The package uses only what exists on every system. These tests don't run on Windows: they look for names that Windows lacks."""

import ast
import re
from pathlib import Path

import nncomplexity

PACKAGE = Path(nncomplexity.__file__).parent
MISSING = """
fcntl resource pwd grp termios tty pty syslog posix curses readline
os.pread os.pwrite os.preadv os.pwritev os.readv os.writev os.fork os.forkpty os.getuid os.geteuid os.getgid os.getegid os.getgroups
os.getpgid os.getpgrp os.getsid os.setsid os.setuid os.killpg os.mkfifo os.mknod os.chown os.fchown os.lchown os.nice os.uname
os.getloadavg os.statvfs os.wait os.wait3 os.wait4 os.WNOHANG os.sched_getaffinity os.sched_setaffinity os.sched_yield os.sendfile
os.sync os.fdatasync os.lockf os.confstr os.sysconf os.ctermid os.O_NOFOLLOW os.O_CLOEXEC os.O_NONBLOCK os.O_SYNC os.O_DIRECTORY
os.register_at_fork os.openpty os.ttyname os.fchdir os.chroot
signal.SIGKILL signal.SIGHUP signal.SIGALRM signal.SIGUSR1 signal.SIGUSR2 signal.SIGCHLD signal.SIGPIPE signal.SIGQUIT signal.SIGTSTP
signal.alarm signal.pause signal.setitimer
os.rename
"""
"""Windows has the last one, but it fails there if a file with the new name exists."""
LACKING = set(re.findall(r"[\w.]+", MISSING))
GUARDED = {
    ("dynamics/results_file.py", "fcntl"),
    ("file/saving.py", "fcntl"),
    ("file/reading.py", "os.O_NONBLOCK"),  # only for named pipes, which Windows lacks too
    ("training/spectral_gradient.py", "os.register_at_fork"),
}
"""Names that the package uses only if they exist."""


def used(source: str) -> set[str]:
    """The names of modules and of their attributes that a source uses."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def test_nothing_is_used_that_windows_lacks() -> None:
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in PACKAGE.rglob("*.py")
        for name in used(file.read_text(encoding="utf-8")) & LACKING
    }
    assert found == GUARDED


def test_the_test_sees_what_it_looks_for() -> None:
    source = "import os, fcntl\nfrom signal import SIGKILL\nos.pread(3, 4, 5)\nos.replace('a', 'b')"
    assert used(source) & LACKING == {"fcntl", "os.pread", "signal.SIGKILL"}
