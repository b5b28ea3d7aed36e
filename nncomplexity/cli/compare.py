"""The command `compare`: compares runs in a table and a figure."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import nncomplexity
from nncomplexity.cli.compare_table import compared
from nncomplexity.cli.options import number_value
from nncomplexity.cli.outputs import check_writable, page_width
from nncomplexity.words import eps_named, of_results, printable


def compare(
    results: Annotated[
        list[str], typer.Argument(metavar="RESULTS", help="The results.jsonl, report.json or curve.json of each run.")
    ],
    eps: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="The ε to show. Can be repeated. Default: all.")] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER", help="The training step to compare at. Can be repeated. Default: the last."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also draw a figure. The ending .png, .svg or .pdf gives the format.")
    ] = None,
    unit: Annotated[str, typer.Option(metavar="UNIT", help="The unit of the figure: bytes or bits.")] = "bytes",
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="The figure's heading, instead of the default one.")] = None,
) -> None:
    """Compare runs side by side: the sizes of their networks at each ε, and the ratio of each size to that of the first run.

    A run is represented by its last network, or by the networks at --step. Several seeds, or a report of --seeds, give a spread. The figure
    shows complexity over training, or bits against distortion for single networks, with bands for the spread.

    \b
      nncomplexity compare plain.json pruned.json
      nncomplexity compare run1.jsonl run2.jsonl --eps 0.1 --out compared.svg
    """
    if out is not None:
        nncomplexity.show.picture_format(out)
    check_writable([out], inputs=results)
    found = nncomplexity.show.side_by_side([nncomplexity.show.read_results(name) for name in dict.fromkeys(results)])
    steps = [number_value(text, "--step") for text in step or []]
    sides = nncomplexity.show.sides_of(found, steps)
    chosen = found.chosen_eps(tuple(of_results(eps_named(text, "--eps")) for text in eps or []))
    wanted = nncomplexity.show.common_eps(sides, chosen)
    print(compared(sides, wanted, nncomplexity.show.differing_settings(sides), width=page_width()), flush=True)
    if out is not None:
        picture = nncomplexity.show.comparison(found, eps=wanted, steps=steps, unit=unit)
        note = nncomplexity.show.save(picture, out, title=title, made_by=found.versions)
        if note:
            print(f"note: {printable(note)}", file=sys.stderr)
        print(f"\nWritten: {printable(out)}", flush=True)
