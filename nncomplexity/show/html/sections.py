"""Parts of the page that are text and tables."""

import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import PurePath

from nncomplexity.bounds import rounded_up
from nncomplexity.show.html.summary import key_figures, name_of, percent
from nncomplexity.show.html.svg import svg
from nncomplexity.show.plots.bounds import chance_of
from nncomplexity.show.plots.elements import Chart
from nncomplexity.show.plots.results import Measurement, Network, Results
from nncomplexity.show.plots.runs import networks_at, runs_of, trained
from nncomplexity.words import counted, form_in_words, or_dash, shape_in_words

WIDE, NARROW = 820, 336
COLUMNS = (("layer", "text"), ("bits", ""), ("shape", "text"), ("form", "text"), ("rank", ""), ("eff. rank", ""), ("step", ""))
ASSUMPTIONS = (
    "The n training examples were drawn independently from one distribution, and the unseen data come from the same.",
    "The architecture, the code of the file and the range of the risk were fixed before the data were seen.",
    "The risk is that of the decoded weights on exactly these n examples.",
    "ε, ranks and steps may be chosen after the data were seen, because the bound holds for all files at once.",
)
ON_BASE = "The base, whose bits are free, was made without these n examples."


def figure(
    chart: Chart,
    name: str,
    caption: str,
    *,
    chosen: bool = True,
    eps: float | None = None,
    run: str | None = None,
    alternative: bool = False,
) -> str:
    """A chart for wide screens and one for narrow screens. Only the script shows alternatives."""
    about = "" if eps is None else f' data-eps="{eps:g}"'
    about += "" if run is None else f' data-run="{escape(run)}"'
    classes = " ".join(part for part, on in (("on", chosen), ("alt", alternative)) if on)
    return (
        f'<figure class="{classes}"{about}><div class="wide">{svg(chart, WIDE, name=name)}</div>'
        f'<div class="narrow">{svg(chart, NARROW, name=name)}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def key_strip(name: str, eps: float, network: Network, point: Measurement) -> str:
    """The most important figures of one network at one ε."""
    cells = "".join(
        f"<div><dt>{escape(what)}</dt><dd><b>{escape(value)}</b><small>{escape(remark)}</small></dd></div>"
        for what, value, remark in key_figures(network, point)
    )
    return (
        f'<section id="key" aria-live="polite"><p class="which"><span id="key-name">{escape(name)}</span>, '
        f'ε = <span id="key-eps">{eps:g}</span></p><dl>{cells}</dl></section>'
    )


def layers_table(point: Measurement, name: str, eps: float) -> str:
    """A row for each tensor."""
    total = max((layer.bits for layer in point.layers), default=0.0) or 1.0
    rows = []
    for layer in point.layers:
        shape = shape_in_words(layer.shape)
        cells = (f"{layer.rank or '–'}", or_dash(layer.effective_rank, ".1f"), or_dash(layer.step, ".3g"))
        figures = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(
            f'<tr><th scope="row">{_breakable(layer.name)}</th><td class="bar" style="--share:{layer.bits / total:.3f}">{layer.bits:,.0f}</td>'
            f'<td class="text">{shape}</td><td class="text">{escape(form_in_words(layer.form, layer.layout))}</td>{figures}</tr>'
        )
    shared = "" if point.shared_bits is None else _shared(point.shared_bits)
    heads = "".join(f'<th scope="col" class="{kind}" aria-sort="none">{name}</th>' for name, kind in COLUMNS)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Layers"><table id="layers-table"><caption><span class="fixed">Layers of '
        f'<span id="table-name">{escape(name)}</span> within ε = <span id="table-eps">{eps:g}</span></span></caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody><tfoot>{shared}</tfoot></table></div>"
    )


def least_of_each(results: Results, value: Callable[[Measurement], float | None], said: Callable[[float], str]) -> str:
    """The ε with the smallest value of a quantity, for the last network of each run and for networks without a step.

    Of several seeds, the smallest value.
    """
    rows = []
    for _, seeds in networks_at(results):
        every = [(network, point) for network in seeds for point in network.points]
        found = [(here, point.eps, network.seed) for network, point in every if (here := value(point)) is not None]
        if found:
            least, at, seed = min(found, key=lambda one: one[:2])
            which = f", seed {seed}" if len(seeds) > 1 else ""
            rows.append(f"<li>{escape(name_of(seeds[0], results, seed=False))}: {said(least)}, at ε = {at:g}{which}</li>")
    when = " at the end" if trained(results) else ""
    return f"<p>The least{when}:</p><ul>{''.join(rows)}</ul>" if rows else ""


def bound_section(results: Results, point: Measurement, picture: str) -> str:
    """The bound, its assumptions and its picture. Empty if no bound was measured."""
    if all(one.bound is None for every in results.networks for one in every.points):
        return ""
    word, rest = promise(point, chance_of(results))
    on_base = any(one.settings.get("relative_to") for one in results.networks)
    listed = "".join(f"<li>{text}</li>" for text in (*ASSUMPTIONS, *([ON_BASE] if on_base else [])))
    least = least_of_each(
        results, lambda one: one.bound.value if one.bound else None, lambda value: f"a bound of {rounded_up(value, 4)}"
    )
    return (
        '<section id="bounds"><h2>The bound on the error on unseen data</h2><p aria-live="polite"><strong id="bound-word">'
        f'{escape(word)}</strong> <span id="bound-rest">{escape(rest)}</span></p>'
        f"<h3>What this assumes</h3><ul>{listed}</ul>{picture}{least}</section>"
    )


def promise(point: Measurement, chance: float) -> tuple[str, str]:
    """Whether the bound is vacuous, and its values, in words."""
    bound = point.bound
    if bound is None:
        return "No bound", f"was measured at ε = {point.eps:g}."
    terms = [
        f"{bound.kind} bound" if bound.kind else "",
        f"{point.bits:,.0f} bits",
        f"n = {bound.n:,}" if bound.n is not None else "",
        f"error {bound.risk:.4g} on the examples" if bound.risk is not None else "",
        f"δ = {bound.delta:g}" if bound.delta is not None else "",
        f"not vacuous up to {bound.bits_needed:,.0f} bits" if bound.bits_needed is not None else "",
    ]
    chance = chance if bound.chance is None else bound.chance
    details, shown = ", ".join(term for term in terms if term), rounded_up(bound.value, 4)
    remark = (
        ""
        if bound.constant_bound is None
        else f" A constant answer takes 0 bits and has a bound of {rounded_up(bound.constant_bound, 4)}."
    )
    if chance >= 1:
        remark += " Chance was not given, so this does not say whether the file is better than a guess."
    if bound.vacuous:
        no_better = f"the bound is {shown}, no better than {chance:.4g}, which needs no learning."
        return "Vacuous", f"at ε = {point.eps:g}: {no_better}{remark} ({details}.)"
    sure = f"with probability {1 - bound.delta:.6g} " if bound.delta is not None else ""
    return "Not vacuous", f"at ε = {point.eps:g}: {sure}the error on unseen data is at most {shown}.{remark} ({details}.)"


def failures(results: Results) -> str:
    """The checkpoints that could not be measured, with their errors."""
    rows = "".join(
        f"<tr><th scope=row>{escape(one.checkpoint or one.kind)}</th><td>{'–' if one.step is None else f'{one.step:,g}'}</td>"
        f'<td class="text error">{escape(one.error)}</td></tr>'
        for one in results.failures
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Failed checkpoints"><table><thead><tr>'
        f'<th scope="col" class="text">checkpoint</th><th scope="col">{escape(results.step_name)}</th>'
        f'<th scope="col" class="text">error</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    cut = f"<p>{counted(results.cut_lines, 'cut line')} left out; an interrupted run leaves such lines.</p>"
    return f'<section id="failed"><h2>Not measured</h2>{table if rows else ""}{cut if results.cut_lines else ""}</section>'


def provenance(results: Results) -> str:
    """The origin of the figures, as far as the files have it."""
    facts: list[tuple[str, str]] = []
    networks = results.networks
    facts.append(
        ("networks", f"{len(networks)} measured, {len(results.failures)} failed, {len(results.calibrations)} calibrations")
    )
    settings: dict[str, dict[str, None]] = {}
    for network in networks:
        for key, value in network.settings.items():
            if key != "seed":
                settings.setdefault(key, {})[_said(value)] = None
    seeds = sorted({network.seed for network in networks if network.seed is not None})
    if seeds:
        facts.append(("search seeds", ", ".join(map(str, seeds))))
    facts += [(key, ", ".join(values)) for key, values in settings.items()]
    first = networks[0]
    if len({network.parameters for network in networks}) == 1 and first.parameters:
        facts.append(("parameters", f"{first.parameters:,}"))
    if len({network.raw_bits for network in networks}) == 1 and first.raw_bits:
        facts.append(("raw weights", f"{first.raw_bits / 8:,.0f} bytes"))
    if len(networks) == 1 and first.bzip2_bits and first.raw_bits:
        facts.append(("under bzip2", f"{first.bzip2_bits / 8:,.0f} bytes, {percent(first.bzip2_bits, first.raw_bits)}"))
    listed = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts)
    sources = "".join(f"<li>{escape(one.name)}<br><code>sha256 {one.sha256}</code></li>" for one in results.sources)
    digests = "".join(
        f"<li>{escape(one.checkpoint or PurePath(one.run).name)}<br><code>sha256 {escape(one.sha256)}</code></li>"
        for one in networks
        if one.sha256
    )
    more = f"<details><summary>Checkpoints and their digests</summary><ul>{digests}</ul></details>" if digests else ""
    runs = runs_of(results)
    many = f"<p>{len(runs)} runs: {escape(', '.join(run.label for run in runs))}.</p>" if len(runs) > 1 else ""
    return (
        f'<section id="provenance"><h2>Where this comes from</h2>{many}<dl class="facts">{listed}</dl>'
        f"<h3>Results files</h3><ul>{sources}</ul>{more}</section>"
    )


def _shared(bits: float) -> str:
    return f'<tr><th scope="row">shared by all</th><td>{bits:,.0f}</td>{"<td></td>" * 5}</tr>'


def _breakable(name: str) -> str:
    """A name in which the browser may break lines after dots and dashes."""
    return re.sub(r"([._/-])", r"\1<wbr>", escape(name))


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {one}" for name, one in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
