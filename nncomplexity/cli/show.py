"""The commands that show results: `plot` draws a figure of them, `report` writes a page."""

import sys
from dataclasses import replace
from pathlib import PurePath
from typing import Annotated

import typer

from nncomplexity.cli.options import number_value
from nncomplexity.cli.outputs import check_writable
from nncomplexity.errors import InputError
from nncomplexity.file import save_bytes
from nncomplexity.show import KINDS, Results, chart, default_kind, page, picture_format, read_results, runs_of, save
from nncomplexity.words import eps_named, of_results, printable

ResultsFiles = Annotated[list[str], typer.Argument(metavar="RESULTS...", help="results.jsonl, report.json, curve.json.")]
Title = Annotated[str | None, typer.Option(metavar="TEXT", help="The heading, in place of its own.")]
StepName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What a step is, such as epoch; else what the files or the checkpoints' names say."),
]


def add_commands(app: typer.Typer) -> None:
    """Give the command line `plot` and `report`."""
    app.command(short_help="Draw a figure of results files.")(plot)
    app.command(short_help="Write a page on results files.")(report)


def plot(
    results: ResultsFiles,
    out: Annotated[str, typer.Option(metavar="FILE", help="The figure; .png, .svg or .pdf says which.")],
    kind: Annotated[str | None, typer.Option(metavar="KIND", help=f"{', '.join(KINDS)}; else what fits the data.")] = None,
    eps: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="Which ε; repeat it for several; else all.")] = None,
    step: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER", help="For rate-distortion: the training step; repeat it; else the last.")
    ] = None,
    mean: Annotated[bool, typer.Option("--mean", help="The mean over runs with its standard error, not a line for each.")] = False,
    unit: Annotated[str, typer.Option(metavar="UNIT", help="bytes or bits.")] = "bytes",
    step_name: StepName = None,
    title: Title = None,
) -> None:
    """Draw a figure of what was measured: complexity over training, rate and distortion, bits by layer, bounds.

    \b
      nncomplexity plot results.jsonl --out dynamics.svg
      nncomplexity plot run1.jsonl run2.jsonl --mean --eps 0.1 --out mean.pdf
      nncomplexity plot report.json --kind layers --out layers.png
    """
    picture_format(out)
    check_writable([out], inputs=results)
    found = _read(results, step_name)
    wanted, steps = (
        [of_results(eps_named(text, "--eps")) for text in eps or []],
        [number_value(text, "--step") for text in step or []],
    )
    picture = chart(found, kind, eps=wanted, steps=steps, mean=mean, unit=unit)
    note = save(picture, out, title=title, made_by=found.versions)
    if note:
        print(f"note: {printable(note)}", file=sys.stderr)
    print(printable(f"wrote {out}: {kind or default_kind(found)} of {_told(found)}"), flush=True)


def report(
    results: ResultsFiles,
    out: Annotated[str, typer.Option(metavar="FILE", help="The page, an .html file that stands alone.")],
    step_name: StepName = None,
    title: Title = None,
) -> None:
    """Write one page on what was measured, with all figures, layers, bounds and where they come from.

    It needs no network and no other file, and can be read without scripts.

    \b
      nncomplexity report results.jsonl --out report.html
    """
    if PurePath(out).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: expected a name that ends in .html; rename the page")
    check_writable([out], inputs=results)
    found = _read(results, step_name)
    save_bytes(out, page(found, title=title).encode(errors="backslashreplace"))
    print(printable(f"wrote {out}: {_told(found)}"), flush=True)


def _read(names: list[str], step_name: str | None) -> Results:
    if step_name is not None and not step_name.strip():
        raise InputError(f"--step-name: expected a word such as epoch, got {step_name!r}; leave it out for the files' own")
    return replace(read_results(names), named_step=step_name and step_name.strip())


def _told(results: Results) -> str:
    """How much was read, and what was left out of it."""
    networks, runs = len(results.networks), len(runs_of(results))
    left = [f"{len(results.failures)} failed"] if results.failures else []
    left += [f"{results.cut_lines} cut"] if results.cut_lines else []
    counted = f"{networks} checkpoint{'s' if networks > 1 else ''}" + (f" of {runs} runs" if runs > 1 else "")
    return counted + (f"; left out: {', '.join(left)}" if left else "")
