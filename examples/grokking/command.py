"""The exit codes of the example's scripts: 0 for success, 2 with one line on standard error for a wrong call, 130 after an interruption."""

import os
import re
import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from nncomplexity.errors import InputError

DONE, WRONG_CALL, INTERRUPTED, PIPE_CLOSED = 0, 2, 130, 141

# Some versions of typer contain a copy of click, others depend on click. In both, UsageError is the parent class of BadParameter.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]


def run_command(app: typer.Typer, name: str, argv: Sequence[str] | None) -> int:
    """Run the only command of `app` on the arguments, by default those of the process, and return the exit code."""
    try:
        with get_command(app).make_context(name, list(sys.argv[1:] if argv is None else argv)) as context:
            context.command.invoke(context)
        return DONE
    except typer.Exit as leave:
        return leave.exit_code
    except _UsageError as error:
        return _fail(name, f"{error.format_message().rstrip('.')}; see {name} --help", WRONG_CALL)
    except InputError as error:
        # The settings of a configuration are the options of the command line.
        option = re.sub(r"^[a-z_]+(?=:)", lambda setting: f"--{setting[0].replace('_', '-')}", str(error))
        return _fail(name, option, WRONG_CALL)
    except KeyboardInterrupt:
        return _fail(name, "interrupted; the same command goes on from here", INTERRUPTED)
    except BrokenPipeError:
        # Python flushes standard output once more at its end, and would report the closed pipe then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _fail(name: str, message: str, code: int) -> int:
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return code
