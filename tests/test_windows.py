"""What the package may use on every system: there is no Windows here to run it on, but what Windows lacks is known."""

import ast
from pathlib import Path

import nncomplexity

PACKAGE = Path(nncomplexity.__file__).parent
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "curses", "readline"}
OF_OS = {
    *("pread", "pwrite", "preadv", "pwritev", "readv", "writev", "fork", "forkpty", "getuid", "geteuid", "getgid", "getegid"),
    *("getgroups", "getpgid", "getpgrp", "getsid", "setsid", "setuid", "killpg", "mkfifo", "mknod", "chown", "fchown", "lchown"),
    *("nice", "uname", "getloadavg", "statvfs", "wait", "wait3", "wait4", "WNOHANG", "sched_getaffinity", "sched_setaffinity"),
    *("sched_yield", "posix_fallocate", "posix_fadvise", "sendfile", "sync", "fdatasync", "lockf", "confstr", "sysconf", "ctermid"),
    *(
        "O_NOFOLLOW",
        "O_CLOEXEC",
        "O_NONBLOCK",
        "O_SYNC",
        "O_DIRECTORY",
        "register_at_fork",
        "openpty",
        "ttyname",
        "fchdir",
        "chroot",
    ),
    "rename",  # over a file that is there it fails
}
OF_SIGNAL = {
    "SIGKILL",
    "SIGHUP",
    "SIGALRM",
    "SIGUSR1",
    "SIGUSR2",
    "SIGCHLD",
    "SIGPIPE",
    "SIGQUIT",
    "SIGTSTP",
    "alarm",
    "pause",
    "setitimer",
}
GUARDED = {("dynamics/results_file.py", "fcntl"), ("spectral_gradient.py", "os.register_at_fork")}
"""They are used only where they are there."""


def used(source: str) -> set[str]:
    """What a source names of these modules."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


LACKING = MODULES | {f"os.{name}" for name in OF_OS} | {f"signal.{name}" for name in OF_SIGNAL}


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
