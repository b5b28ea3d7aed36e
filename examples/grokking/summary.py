"""Runs as a table of figures, one line for each.

python examples/grokking/summary.py runs/* --method bayes --paper-bytes
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

if not __package__:
    # As a script, this file's folder is on the path; packages are found from the repository's root.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.grokking.command import run_command
from examples.grokking.complexity import settings_for
from examples.grokking.curves import Run
from examples.grokking.panels import View
from nncomplexity.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

HEADER = ("run", "memorised", "found the rule", "accuracy at the end", "peak, bytes", "end, bytes", "end / peak", "ms an epoch")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error."""
    return run_command(app, "summary.py", argv)


@app.command()
def summary(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders that train.py wrote.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="Measurements of this method.")] = "tight",
    eps: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Measurements at this ε; 1, or 0.1 with --distortion kl.")
    ] = None,
    distortion: Annotated[
        str, typer.Option(metavar="NAME", help="Measurements under this distortion, as in measure.py: loss or kl.")
    ] = "loss",
    paper_bytes: Annotated[
        bool, typer.Option("--paper-bytes", help="Sizes by the paper's recipe, for bayes and quantize.")
    ] = False,
) -> None:
    """Print for each run when it memorised and when it found the rule, and the peak and the end of its complexity.

    Epochs are the first recorded ones with a train or a test accuracy of at least 0.99. The peak has its epoch in brackets. The
    time is that of training without measurements, on the run's machine and with its number of threads.
    """
    asked = settings_for([eps] if eps else (), method, distortion=distortion)
    print(as_table([Run.load(run) for run in runs], View(method, *asked.eps, paper_bytes, distortion)))


def as_table(runs: Sequence[Run], view: View) -> str:
    """The Markdown table.

    Raises:
        InputError: a run has no measurements of this kind.
    """
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *(_cells(run, view) for run in runs)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(run: Run, view: View) -> tuple[str, ...]:
    sizes = view.series(run)
    if not sizes:
        raise InputError(f"{run.path}: has no such measurements yet; run measure.py {run.path} {view.options} --eps {view.eps}")
    peak = max(sizes, key=lambda epoch: sizes[epoch])
    end = sizes[max(sizes)]
    last = run.metrics[-1]
    config = run.config
    attention = ", summed attention" if config.attention == "summed" else ""
    return (
        f"{config.operation}, {config.regularizer}{attention}, seed {config.seed}",
        _first(run, "train_accuracy"),
        _first(run, "test_accuracy"),
        f"{last['train_accuracy']:.3f}, {last['test_accuracy']:.3f}",
        f"{sizes[peak]:,.0f} ({peak})",
        f"{end:,.0f}",
        f"{end / sizes[peak]:.2f}",
        f"{1e3 * last['seconds'] / last['epoch']:.0f}",
    )


def _first(run: Run, name: str) -> str:
    """The first recorded epoch at which an accuracy is at least 0.99."""
    return next((str(line["epoch"]) for line in run.metrics if line[name] >= 0.99), "–")


if __name__ == "__main__":
    sys.exit(main())
