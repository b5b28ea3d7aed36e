"""Tables of measurements and of verified claims, in 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

import nncomplexity
from nncomplexity.words import duration_in_words, form_in_words, listed, or_dash, printable, shape_in_words

if TYPE_CHECKING:
    from nncomplexity.bounds import Bound, DescriptionLength
    from nncomplexity.measure import Report, Subject, Verification

WIDTH = 80
_LISTED = 6
"""The largest number of names in a list."""
_NARROWEST = 12
"""A column of text may be folded to this width."""
_GAP = 2
"""The blanks between two columns."""
BOUND_ON_BASE = "The bound holds only if the base was made without the examples of the bound."


def measured(
    checkpoint: str,
    reports: Sequence[Report],
    bounds: Sequence[Bound | None],
    lengths: Sequence[DescriptionLength | None],
    *,
    no_length: str | None = None,
    width: int = WIDTH,
) -> str:
    """The network, and a row for each ε. Then follow, for each ε, the layers of its file, its bound and its description length.

    Args:
        checkpoint: the network's name.
        reports: one for each ε, all of one network.
        bounds: the bound of each report; None without --risk-fn.
        lengths: the description length of each report; None without --n, or if the loss is no code length.
        no_length: the reason why there is no description length although --n was given.
        width: the number of columns of the page.
    """
    subject = reports[0].subject
    codec, lossless = subject.compared
    summary = text_table("ε", "bits", "bytes", "of raw", f"of {codec}", "loss after", "distortion")
    for report in reports:
        summary.add_row(
            f"{report.eps_told}{'' if report.within else ' *'}",
            f"{report.bits:,}",
            f"{report.bits // 8:,}",
            percent(report.bits, subject.raw_bits),
            percent(report.bits, lossless),
            f"{report.coarse_loss:.4g}",
            f"{report.distortion:.4g}",
        )
    parts: list[str | Table] = [network_in_words(checkpoint, subject), *_relative(subject), "", summary]
    parts += [f"* {report.outcome}" for report in reports if not report.within and not report.interrupted]
    parts += [*shares(reports), *spreads(reports), *cut_short(reports), *warnings(reports)]
    for report, bound, length in zip(reports, bounds, lengths, strict=True):
        parts += ["", _heading(report), *(report.faithfulness.in_words() if report.faithfulness else []), _layers(report)]
        if bound:
            parts += ["", bound.sentence()]
            parts += [BOUND_ON_BASE] if subject.relative_to else []
        if length:
            parts += ["", _description(length)]
    if no_length:
        parts += ["", f"No description length: {no_length}."]
    if subject.left_out:
        parts += ["", f"Not measured, because it is part of the architecture: {listed(subject.left_out, most=_LISTED)}."]
    # With a single ε, this sentence would say nothing.
    totals = {report.eps_told: length.total_bits for report, length in zip(reports, lengths, strict=True) if length}
    if len(totals) > 1:
        parts += ["", f"The least description length is at ε = {min(totals, key=totals.__getitem__)}."]
    return page_of(parts, width)


def warned(warnings: Mapping[str, str]) -> list[str]:
    """A paragraph of warnings. Each has the ε that it applies to, or an empty text if it applies to all."""
    lines = [f"Warning{f', {about}' if about else ''}: {text}" for text, about in warnings.items()]
    return ["", *lines] if lines else []


def verified(name: str, found: Verification, bound: Bound | None = None, *, width: int = WIDTH) -> str:
    """A line for each claim about the file of that name, and then the verdict."""
    table = text_table("claim", "", "figures", left=("claim", "", "figures"))
    for claim in found.claims:
        table.add_row(claim.name, "holds" if claim.holds else "FAILS", printable(claim.figures))
    failing = sum(not claim.holds for claim in found.claims)
    verdict = f"{name}: {f'{failing} of {len(found.claims)} claims fail' if failing else f'all {len(found.claims)} claims hold'}."
    parts: list[str | Table] = [table, "", *([*found.faithfulness.in_words(), ""] if found.faithfulness else [])]
    if bound:
        parts += [bound.sentence(), *([BOUND_ON_BASE] if found.relative_to else []), ""]
    if found.on_trust:
        parts += [f"Not checked, but taken on trust: {', '.join(map(printable, found.on_trust))}.", ""]
    return page_of([*parts, verdict], width)


def by(origin: str) -> str:
    """The origin of a file, as a part of a sentence."""
    return "lossless" if origin == nncomplexity.search.LOSSLESS else f"by {origin}"


def shares(reports: Sequence[Report]) -> list[str]:
    """A sentence with the distance that shares refer to, if an ε is a share."""
    subject = reports[0].subject
    if subject.zero_loss is None or all(report.eps_relative is None for report in reports):
        return []
    # With the distance, a reader can convert a share into nats, and back.
    away = abs(subject.zero_loss - subject.loss)
    return ["", f"Shares refer to {away:.6g}, the distance between the loss and that of all weights zero, {subject.zero_loss:.6g}."]


def network_in_words(checkpoint: str, subject: Subject) -> str:
    """The network's size and its loss, in a sentence above a table."""
    codec, lossless = subject.compared
    return (
        f"{checkpoint}: {subject.parameters:,} parameters, {subject.raw_bits // 8:,} bytes raw, "
        f"{lossless // 8:,} bytes under {codec}, {_distortion(subject)}."
    )


def _distortion(subject: Subject) -> str:
    """The original's loss, or the kind of the distortion if it is between functions."""
    if subject.divergence is None:
        return f"loss {subject.loss:.6g}"
    return f"distortion: {subject.divergence} between the outputs and the original's"


def spreads(reports: Sequence[Report]) -> list[str]:
    """For each ε, how much the sizes of several searches differ."""
    lines = [
        f"ε = {report.eps_told}: {report.bits // 8:,} bytes (searches: {report.spread.in_words()})."
        for report in reports
        if report.spread
    ]
    return ["", *lines] if lines else []


def cut_short(reports: Sequence[Report]) -> list[str]:
    """Sentences on searches that ended early: the reason, and the ε."""
    lines = []
    if reports[0].time_limit is not None and reports[0].time_is_up:
        lines += [
            "",
            f"The time limit of {duration_in_words(reports[0].time_limit)} ended the search early; another run may find another file.",
        ]
    if any(report.interrupted for report in reports):
        lines += ["", "Interrupted: these are the best files so far; another run may find smaller ones."]
        lines += [f"  {report.status}" for report in reports if report.interrupted]
    return lines


def warnings(reports: Sequence[Report]) -> list[str]:
    """Each warning once, with its ε if it does not apply to all of them."""
    found: dict[str, list[str]] = {}
    for report in reports:
        for text in report.warnings:
            found.setdefault(text, []).append(report.eps_told)
    return warned({text: "" if len(eps) == len(reports) else f"at ε = {listed(eps, most=12)}" for text, eps in found.items()})


def _relative(subject: Subject) -> list[str]:
    """The base, and the tensors that are not relative to it."""
    base = subject.relative_to
    if base is None:
        return []
    lines = [f"Relative to {base.path or 'a base'}, whose bits are free (tensors' sha256 {base.sha256[:12]}…)."]
    if base.without_base:
        lines.append(f"Not in the base in the same shape, so coded whole: {listed(base.without_base, most=_LISTED)}.")
    if base.unused:
        lines.append(f"Only in the base, and not used: {listed(base.unused, most=_LISTED)}.")
    return lines


def _heading(report: Report) -> str:
    spent = f"{report.evaluations:,.0f} evaluations, {report.seconds:,.1f} seconds"
    paper = "" if report.paper_bytes is None else f" The paper's recipe: {report.paper_bytes:,} bytes."
    return f"ε = {report.eps_told}: method {report.method}, {by(report.origin)}, codec {report.file.codec.name}, {spent}.{paper}"


def _layers(report: Report) -> Table:
    table = text_table("layer", "shape", "form", "rank", "eff.\nrank", "step", "bits", left=("layer", "form"))
    for layer in report.layers:
        table.add_row(
            printable(" = ".join(layer.names or (layer.name,))),
            shape_in_words(layer.shape),
            form_in_words(layer.form, layer.layout),
            or_dash(layer.rank, ",", "-"),
            or_dash(layer.effective_rank, ".1f", "-"),
            or_dash(layer.step, ".3g", "-"),
            f"{layer.bits:,.0f}",
        )
    table.add_row("(shared by all)", "", "", "", "", "", f"{round(report.shared_bits):,}")
    return table


def _description(length: DescriptionLength) -> str:
    return (
        f"Description length (MDL): {length.model_bits:,.0f} bits of model + {length.data_bits:,.0f} bits of data given the model "
        f"(n·loss/ln 2) = {length.total_bits:,.0f} bits."
    )


def text_table(*columns: str, left: Sequence[str] = ()) -> Table:
    """An empty table with these columns. Numbers are aligned right. The columns in `left` have text, which may be broken into lines."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_edge=False)
    for column in columns:
        if column in left:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def page_of(parts: Sequence[str | Table], width: int) -> str:
    """The parts, one below the other. Lines are broken at `width`, and have no trailing blanks.

    If a table is wider than the page, several tables with the same first column follow each other, so that no number is cut.
    """
    # Console would guess these from the terminal, and take [ or : in a name for markup. A page must be the same everywhere.
    console = Console(
        file=StringIO(), width=width, color_system=None, force_terminal=False, highlight=False, markup=False, emoji=False
    )
    with console.capture() as captured:
        for part in parts:
            for piece in [printable(part)] if isinstance(part, str) else _fitting(part, width):
                console.print(piece)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _fitting(table: Table, width: int) -> list[Table | str]:
    """The table, or several tables with blank lines between them."""
    first, *others = table.columns
    groups: list[list[Column]] = [[first]]
    for column in others:
        if len(groups[-1]) > 1 and _narrowest([*groups[-1], column]) > width:
            groups.append([first])
        groups[-1].append(column)
    if len(groups) == 1:
        return [table]
    pieces: list[Table | str] = []
    for columns in groups:
        piece = text_table()
        for column in columns:
            kept = {key: getattr(column, key) for key in ("overflow", "justify", "no_wrap", "min_width", "max_width")}
            piece.add_column(column.header, **kept)
        for row in zip(*(column.cells for column in columns), strict=True):
            piece.add_row(*row)
        pieces += [piece, ""]
    return pieces[:-1]


def _narrowest(columns: Sequence[Column]) -> int:
    """The width that these columns need at least. Columns of text can be folded, and others can't."""
    total = _GAP * (len(columns) - 1)
    for column in columns:
        lines = [line for cell in (column.header, *column.cells) for line in str(cell).split("\n")]
        longest = max(map(cell_len, lines))
        total += longest if column.no_wrap else column.min_width or min(longest, _NARROWEST)
    return total


def percent(part: float, whole: float) -> str:
    """A share for a table; a dash if the whole is 0."""
    return f"{100 * part / whole:.2f} %" if whole else "-"
