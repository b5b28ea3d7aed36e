"""Measure the checkpoints of a run once more, with another ε or another method.

python examples/grokking/measure.py runs/quick --method quantize
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

if not __package__:
    # As a script, this file's folder is on the path; packages are found from the repository's root.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from rich.progress import track

from examples.grokking.command import run_command
from examples.grokking.complexity import measure, settings_for
from examples.grokking.folder import RunFolder, append_line, keep_lines
from examples.grokking.task import task_for
from nncomplexity.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error."""
    return run_command(app, "measure.py", argv)


@app.command()
def again(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders that train.py wrote.")],
    eps: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="ε in nats per example; repeat it for several.")] = None,
    distortion: Annotated[
        str, typer.Option(metavar="NAME", help="loss: of the training equations. kl: between the answers to all equations.")
    ] = "loss",
    method: Annotated[str, typer.Option(metavar="NAME", help="tight, bayes or quantize, as in nncomplexity measure.")] = "tight",
    budget: Annotated[int | None, typer.Option(metavar="N", help="Loss evaluations for each checkpoint and ε.")] = None,
    last: Annotated[bool, typer.Option("--last", help="Only the last checkpoint of each run.")] = False,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Processor threads.")] = 1,
) -> None:
    """Measure the checkpoints of finished runs again, with other settings than they were trained with.

    Each DIR/measurements/METHOD.jsonl receives a line for each checkpoint and ε; existing measurements are not repeated. The
    lines of --distortion kl are in METHOD-kl.jsonl, and their usual ε is 0.1.
    figures.py draws from these files.

    \b
    The paper's Algorithm 2, for Figure 7:
      python examples/grokking/measure.py runs/quick --method quantize
    \b
    How complex each network itself is, and not only some network with its loss; figures.py --distortion kl draws it:
      python examples/grokking/measure.py runs/quick --distortion kl --budget 400
    \b
    A rate-distortion curve of the trained networks, for Figure 4:
      python examples/grokking/measure.py runs/* --last --eps 4 --eps 1 --eps 0.25
    """
    torch.set_num_threads(threads)
    asked = settings_for(eps or (), method, budget, distortion)
    folders = [RunFolder.open(run) for run in runs]
    for folder in folders:
        file = folder.measurements(asked.kind)
        there = {(line["epoch"], line["eps"], line["budget"]) for line in keep_lines(file, lambda _: True)}
        epochs = folder.checkpoints()[-1:] if last else folder.checkpoints()
        if not epochs:
            raise InputError(f"{folder.path}: it has no checkpoints yet; train it first")
        for epoch in track(epochs, description=str(folder.path), disable=not sys.stderr.isatty()):
            missing = tuple(text for text in asked.eps if (epoch, text, budget) not in there)
            if missing:
                settings = replace(asked, eps=missing, seed=folder.config.seed)
                for line in measure(folder.load_checkpoint(epoch), task_for(folder.config), settings):
                    append_line(file, {"epoch": epoch, **line})
        print(f"measured: {file}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
