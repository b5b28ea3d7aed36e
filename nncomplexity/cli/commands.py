"""All commands of the command line, and what happens at an error. docs/cli.md is the reference."""

import io
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from nncomplexity.cli.bound import bound
from nncomplexity.cli.certify import certify
from nncomplexity.cli.compare import compare
from nncomplexity.cli.curve import curve
from nncomplexity.cli.decompress import decompress
from nncomplexity.cli.doctor import doctor
from nncomplexity.cli.groups import grouped
from nncomplexity.cli.init import init
from nncomplexity.cli.loading import needing
from nncomplexity.cli.measure import measure
from nncomplexity.cli.options import DONE, INTERRUPTED, PIPE_CLOSED, WRONG_CALL
from nncomplexity.cli.show import plot, report
from nncomplexity.cli.track import track
from nncomplexity.cli.verify import verify
from nncomplexity.errors import InputError
from nncomplexity.version import __version__
from nncomplexity.words import printable

# Some versions of typer contain a copy of click, and others depend on click. In both, UsageError is the parent of BadParameter.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]

_PROGRAM = "nncomplexity"
_COMPLETION = "_NNCOMPLEXITY_COMPLETE"
"""The environment variable that the script of `--install-completion` sets when it asks for completions."""
_OTHER_NAMES = {"kind": "divergence"}
"""Python arguments whose options have another name."""

app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 verify or certify found a false claim, or track could not measure a checkpoint; 2 the call or an "
    "input is wrong; 3 nothing smaller than the lossless file was found within ε; 130 interrupted.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error.

    Args:
        argv: the arguments, without the program's name; None takes those of the process.

    Returns:
        The exit code, as docs/cli.md has them.

    Raises:
        OSError: a user's file fails in a way that no command handles, or standard output isn't the process's own.

    >>> main(["--version"])
    nncomplexity ...
    0
    """
    if sys.stdout is None or sys.stderr is None:  # closed by the shell, as by >&-
        sys.stdout, sys.stderr = (stream or Path(os.devnull).open("w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without the letter ε must not end a measurement
    if _COMPLETION in os.environ:
        app(prog_name=_PROGRAM)  # the shell asks for completions of a line; this call ends the process
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # Calling the app would end the process, and would print an error on several lines.
        with get_command(app).make_context(_PROGRAM, list(arguments)) as context:
            return int(context.command.invoke(context) or DONE)
    except typer.Exit as leave:
        return leave.exit_code
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "nncomplexity"
        return _fail(f"{_with_value(error, arguments)}; see {where} --help", WRONG_CALL)
    except InputError as error:
        return _fail(_with_option(str(error), arguments), WRONG_CALL)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Python flushes standard output again when it ends, and would then print an error.
        _discard_output()
        return PIPE_CLOSED
    except OSError as error:
        # Without a file's name, the stream failed: for example, the disk that standard output is redirected to is full.
        if error.filename is not None or not isinstance(sys.stdout, io.TextIOWrapper):
            raise
        _discard_output()
        return _fail(f"standard output: cannot write there ({error.strerror})", WRONG_CALL)


def _with_value(error: typer.BadParameter, arguments: Sequence[str]) -> str:
    """The message of a wrong call, with the value that was typed. Some versions of typer leave it out."""
    message = error.format_message().rstrip(".")
    options = getattr(getattr(error, "param", None), "opts", ())
    typed = [value for option, value in itertools.pairwise(arguments) if option in options]
    typed += [value for option, equals, value in (one.partition("=") for one in arguments) if equals and option in options]
    return message if not typed or repr(typed[-1]) in message else f"{message}, got {typed[-1]!r}"


def _with_option(message: str, arguments: Sequence[str]) -> str:
    """A message with the option of the command line instead of the Python argument, which is named at its beginning."""
    # Python functions name the argument at the beginning of a message, such as `n: expected ...`, and the command line has `--n`.
    name, colon, rest = message.partition(": ")
    commands = getattr(get_command(app), "commands", {})
    command = commands.get(next((one for one in arguments if one in commands), ""))
    options = {one.name: one.opts[0] for one in getattr(command, "params", ())}
    option = options.get(name) or options.get(_OTHER_NAMES.get(name, ""), name)
    return f"{option}{colon}{rest}"


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nncomplexity {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure how complex a trained neural network is, and bound its error on unseen data.

    'measure' searches for the smallest file whose decoded weights have a loss within ε of the original's. The bits of this file are an
    upper bound on the Kolmogorov complexity of what the network learned. They also give a bound on the error on unseen data.

    \b
    An example. mytask.py has loss(weights), which returns the training loss:
      nncomplexity measure model.safetensors --loss-fn mytask:loss --eps 0.01
    \b
    A first mytask.py, with comments that say what to change:
      nncomplexity init mytask.py
    """


app.command(short_help="Bits of the smallest file found within each ε.")(needing("measure", grouped(measure)))
app.command(short_help="Bits at many ε: the rate-distortion curve.")(needing("measure", grouped(curve)))
app.command(short_help="The smallest bound on the error rate on unseen data.")(needing("measure", grouped(bound)))
app.command(short_help="Decode a .coarse file to .safetensors.")(needing("checkpoint.loading", decompress))
app.command(short_help="Check claims about a .coarse file.")(needing("measure", grouped(verify)))
app.command(short_help="Write a certificate of a .coarse file, for others to check.")(needing("measure", grouped(certify)))
app.command(short_help="Complexity over training: a row for each checkpoint.")(needing("dynamics", grouped(track)))
app.command(short_help="Draw a figure of results files.")(needing("show", plot))
app.command(short_help="Write a commented module with a loss, as a first draft.")(needing("checkpoint.loading", init))
app.command(short_help="Say which versions, devices and extras are installed.")(doctor)
app.command(short_help="Compare runs side by side.")(needing("show", compare))
app.command(short_help="Write a web page about results files.")(needing("show", report))


def _fail(message: str, code: int) -> int:
    print(f"nncomplexity: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
