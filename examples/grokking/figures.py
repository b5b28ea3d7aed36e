"""Draw the figures of *The Complexity Dynamics of Grokking* from what train.py and measure.py wrote.

python examples/grokking/figures.py runs/quick --out figures
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
from examples.grokking.curves import Run, group_runs, measured_by
from examples.grokking.panels import FIGURES, MissingError, View
from nncomplexity.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error."""
    return run_command(app, "figures.py", argv)


@app.command()
def figures(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders that train.py wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the pictures go; made if it isn't there.")],
    number: Annotated[list[int] | None, typer.Option("--figure", metavar="N", help="Only this figure; repeat it.")] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="Measurements of this method.")] = "tight",
    eps: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Measurements at this ε, where a figure has one; 1, or 0.1 with --distortion kl."),
    ] = None,
    distortion: Annotated[
        str, typer.Option(metavar="NAME", help="Measurements under this distortion, as in measure.py: loss or kl.")
    ] = "loss",
    paper_bytes: Annotated[
        bool, typer.Option("--paper-bytes", help="Sizes by the paper's recipe, for bayes and quantize, instead of bits / 8.")
    ] = False,
    suffix: Annotated[str, typer.Option("--format", metavar="NAME", help="png, pdf or svg.")] = "png",
) -> None:
    """Draw Figures 1 to 11 of the paper from runs of any preset.

    Runs that differ only in their seed become one curve, the mean, with its standard error shaded. A figure that needs more than
    the runs hold is left out, and a line says what to run first.

    \b
    Figure 2, complexity and accuracy while a network learns:
      python examples/grokking/figures.py runs/quick --out figures --figure 2
    \b
    The same under the function distortion, from what measure.py --distortion kl measured: out/figure_02_kl.png
      python examples/grokking/figures.py runs/quick --out figures --figure 2 --distortion kl
    \b
    All figures of several runs, in the paper's unit:
      python examples/grokking/figures.py runs/* --method bayes --paper-bytes --out figures
    """
    from examples.grokking.drawing import draw

    asked = settings_for([eps] if eps else (), method, distortion=distortion)
    wanted = number or list(FIGURES)
    for chosen in wanted:
        if chosen not in FIGURES:
            raise InputError(f"figure: expected a number from 1 to {max(FIGURES)}, got {chosen}")
    if suffix not in ("png", "pdf", "svg"):
        raise InputError(f"format: expected png, pdf or svg, got {suffix!r}")
    groups = group_runs([Run.load(run) for run in runs])
    view = View(method, *asked.eps, paper_bytes, distortion)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: {out} cannot be made ({error.strerror})") from None
    under = "" if distortion == "loss" else ", under the function distortion"
    second = "" if distortion == "loss" else f"_{distortion}"
    drawn = 0
    for chosen in wanted:
        figure = FIGURES[chosen]
        path = out / f"figure_{chosen:02d}{second}.{suffix}"
        try:
            draw(figure.panels(groups, view), f"Figure {chosen}. {figure.caption}{under}", path, made_by=measured_by(groups))
        except MissingError as missing:
            print(f"figure {chosen} left out: {missing}", flush=True)
        else:
            drawn += 1
            print(f"figure {chosen}: {path}", flush=True)
    if not drawn:
        raise InputError("runs: they hold none of the figures asked for; the lines above say what is missing")


if __name__ == "__main__":
    sys.exit(main())
