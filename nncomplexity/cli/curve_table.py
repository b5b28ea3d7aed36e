"""The table of a curve: a row for each ε, and then the fits, ε* and the best bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

import nncomplexity
from nncomplexity.cli.table import (
    BOUND_ON_BASE,
    WIDTH,
    by,
    cut_short,
    network_in_words,
    page_of,
    percent,
    shares,
    spreads,
    text_table,
    warnings,
)

if TYPE_CHECKING:
    from nncomplexity.measure import Curve


def curve_table(checkpoint: str, curve: Curve, *, no_length: str | None = None, width: int = WIDTH) -> str:
    """The network, a row for each ε, the fits, ε* and the best bound; a + marks the lower convex hull.

    Args:
        checkpoint: the network's name.
        curve: the result of the search.
        no_length: the reason why there is no description length although --n was given.
        width: the number of columns of the page.
    """
    subject = curve.reports[0].subject
    names = ["ε", "", "bits", "bytes", "of raw", "loss after", "distortion"]
    faithful = any(report.faithfulness for report in curve.reports)
    names += ["agree", "held out"] if faithful else []
    names += ["bound"] if any(curve.bounds) else []
    names += ["MDL bits"] if any(curve.lengths) else []
    table = text_table(*names)
    for report, bound, length in zip(curve.reports, curve.bounds, curve.lengths, strict=True):
        row = [
            f"{report.eps_told}{'' if report.within else ' *'}",
            "+" if report.eps in curve.hull else "",
            f"{report.bits:,}",
            f"{report.bits // 8:,}",
            percent(report.bits, subject.raw_bits),
            f"{report.coarse_loss:.4g}",
            f"{report.distortion:.4g}",
        ]
        row += [_share(report.agreement and report.agreement[index]) for index in (0, 1)] if faithful else []
        row += [nncomplexity.bounds.rounded_up(bound.value, 4) if bound else "-"] if any(curve.bounds) else []
        row += [f"{length.total_bits:,.0f}" if length else "-"] if any(curve.lengths) else []
        table.add_row(*row)
    parts: list[str | Table] = [network_in_words(checkpoint, subject), "", table, "+ on the lower convex hull."]
    if any(not report.within for report in curve.reports):
        parts.append("* nothing within ε was smaller than the lossless file; raise eps or the budget.")
    parts += [
        *_origins(curve),
        *shares(curve.reports),
        *spreads(curve.reports),
        *cut_short(curve.reports),
        *warnings(curve.reports),
    ]
    spent = f"{curve.evaluations:,.0f} evaluations, {curve.seconds:,.1f} seconds"
    parts += ["", f"All {len(curve.reports)} ε together: method {curve.reports[0].method}, {spent}."]
    for fit in (fit for fit in curve.fits if fit.explains):
        parts.append(f"{'Best fit' if fit is curve.best_fit else 'Fit'}, D the distortion: {fit.sentence()}.")
    if curve.mdl:
        report, length = curve.mdl
        parts += [
            "",
            f"Least description length (MDL): ε* = {report.eps_told}, {length.model_bits:,.0f} bits of model + "
            f"{length.data_bits:,.0f} bits of data given the model (n·loss/ln 2) = {length.total_bits:,.0f} bits.",
        ]
    if no_length:
        parts += ["", f"No description length: {no_length}."]
    if curve.best_bound:
        report, bound = curve.best_bound
        parts += ["", f"Best bound, at ε = {report.eps_told}. {bound.sentence()}"]
        parts += [BOUND_ON_BASE] if subject.relative_to else []
    return page_of(parts, width)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _origins(curve: Curve) -> list[str]:
    """The origins of the files, for each ε if they differ."""
    found: dict[str, list[str]] = {}
    for report in curve.reports:
        found.setdefault(report.origin, []).append(report.eps_told)
    if len(found) == 1:
        return [f"All {by(next(iter(found)))}."]
    lines = {by(origin): eps for origin, eps in found.items()}
    return [f"{words[0].upper()}{words[1:]}: ε = {', '.join(eps)}." for words, eps in lines.items()]
