"""The commands that show results: `plot` draws a figure, and `report` writes a web page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

import nncomplexity
from nncomplexity.cli.options import number_value, offering
from nncomplexity.cli.outputs import check_writable
from nncomplexity.errors import InputError
from nncomplexity.words import counted, eps_named, of_results, printable

if TYPE_CHECKING:
    from nncomplexity.show import Results

CHART_KINDS = ("dynamics", "measures", "rate-distortion", "layers", "bounds", "description-length")
ResultsFiles = Annotated[list[str], typer.Argument(metavar="RESULTS", help="results.jsonl, report.json, curve.json.")]
Title = Annotated[str | None, typer.Option(metavar="TEXT", help="The heading, instead of the default one.")]
StepName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The word for a step, such as epoch. Default: from the files or the checkpoints' names."),
]


def plot(
    results: ResultsFiles,
    out: Annotated[str, typer.Option(metavar="FILE", help="The figure. The ending .png, .svg or .pdf gives the format.")],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help=f"{', '.join(CHART_KINDS)}. The default depends on the data.",
            autocompletion=offering(CHART_KINDS),
        ),
    ] = None,
    eps: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="The ε to show. Can be repeated. Default: all.")] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER", help="For rate-distortion: the training step. Can be repeated. Default: the last."),
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="The mean over runs with its standard error, instead of one line for each run.")
    ] = False,
    unit: Annotated[str, typer.Option(metavar="UNIT", help="bytes or bits.", autocompletion=offering(("bytes", "bits")))] = "bytes",
    step_name: StepName = None,
    title: Title = None,
) -> None:
    """Draw a figure of results: complexity over training, rate and distortion, bits by layer, bounds.

    \b
      nncomplexity plot results.jsonl --out dynamics.svg
      nncomplexity plot run1.jsonl run2.jsonl --mean --eps 0.1 --out mean.pdf
      nncomplexity plot report.json --kind layers --out layers.png
    """
    nncomplexity.show.picture_format(out)
    check_writable([out], inputs=results)
    found = _read(results, step_name)
    wanted, steps = (
        [of_results(eps_named(text, "--eps")) for text in eps or []],
        [number_value(text, "--step") for text in step or []],
    )
    picture = nncomplexity.show.chart(found, kind, eps=wanted, steps=steps, mean=mean, unit=unit)
    note = nncomplexity.show.save(picture, out, title=title, made_by=found.versions)
    if note:
        print(f"note: {printable(note)}", file=sys.stderr)
    print(printable(f"wrote {out}: {kind or nncomplexity.show.default_kind(found)} of {_count_in_words(found)}"), flush=True)


def report(
    results: ResultsFiles,
    out: Annotated[str, typer.Option(metavar="FILE", help="The page: one .html file that needs no other file.")],
    step_name: StepName = None,
    title: Title = None,
) -> None:
    """Write one web page about results, with all figures, layers and bounds, and with their settings and versions.

    The page needs no network and no other file. It can be read without scripts.

    \b
      nncomplexity report results.jsonl --out report.html
    """
    if PurePath(out).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: expected a name that ends in .html; choose such a name")
    check_writable([out], inputs=results)
    found = _read(results, step_name)
    nncomplexity.file.save_bytes(out, nncomplexity.show.page(found, title=title).encode(errors="backslashreplace"))
    print(printable(f"wrote {out}: {_count_in_words(found)}"), flush=True)


def _read(names: list[str], step_name: str | None) -> Results:
    if step_name is not None and not step_name.strip():
        raise InputError(
            f"--step-name: expected a word such as epoch, got {step_name!r}; leave it out to use the name in the files"
        )
    return replace(nncomplexity.show.read_results(names), named_step=step_name and step_name.strip())


def _count_in_words(results: Results) -> str:
    """The number of checkpoints that were read, and of those that were left out."""
    networks, runs = len(results.networks), len(nncomplexity.show.runs_of(results))
    left = [f"{len(results.failures)} failed"] if results.failures else []
    left += [f"{results.cut_lines} cut"] if results.cut_lines else []
    measured = counted(networks, "checkpoint") + (f" of {runs} runs" if runs > 1 else "")
    return measured + (f"; left out: {', '.join(left)}" if left else "")
