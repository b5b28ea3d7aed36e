"""What the results come to, in sentences: a title, a verdict, and the key figures of one network at one ε."""

import math
from pathlib import PurePath

from nncomplexity.bounds import rounded_up
from nncomplexity.plots.results import BoundValue, Measurement, Network, Results
from nncomplexity.plots.runs import Run, runs_of, trained


def first_eps(results: Results) -> float:
    """The ε that a page begins with: the middle one of those that were measured throughout."""
    found = results.eps_over_training
    return found[len(found) // 2]


def first_network(results: Results, eps: float) -> Network:
    """The last network of the first run that was measured at ε."""
    lasts = [run.last for run in runs_of(results)]
    return next((network for network in lasts if network.at(eps)), next(one for one in results.networks if one.at(eps)))


def page_title(results: Results) -> str:
    runs = runs_of(results)
    if len(runs) > 1:
        return f"Complexity of {len(runs)} runs"
    if len(results.networks) > 1:
        return f"Complexity of {runs[0].label}"
    return f"Complexity of {PurePath(results.networks[0].checkpoint).name or runs[0].label}"


def verdict(results: Results, eps: float) -> str:
    """One sentence: how many bytes, where they went over training, and what they promise."""
    runs = runs_of(results)
    if len(runs) > 1:
        return _of_runs(runs, eps)
    if trained(results):
        return _over_training(runs[0], eps)
    network = first_network(results, eps)
    point = network.at(eps)
    assert point is not None
    share = f", {percent(point.bits, network.raw_bits)} of its {network.raw_bits / 8:,.0f} raw bytes" if network.raw_bits else ""
    base = network.settings.get("relative_to")
    beyond = f" beyond {base}" if base else ""
    return f"Within ε = {eps:g}, what the network has learned{beyond} fits in {point.bits / 8:,.0f} bytes{share}{_promise(point.bound)}."


def name_of(network: Network, results: Results) -> str:
    """How a page calls a network: its run where there are several, and its step or its file."""
    runs = runs_of(results)
    run = next(run.label for run in runs if network in run.networks)
    own = f"step {network.step:,g}" if network.step is not None else PurePath(network.checkpoint).name or run
    twins = [
        one for one in results.networks if (one.run, one.step, one.checkpoint) == (network.run, network.step, network.checkpoint)
    ]
    seed = f", seed {network.seed}" if len(twins) > 1 else ""
    return f"{run}, {own}{seed}" if len(runs) > 1 and own != run else f"{own}{seed}"


def key_figures(network: Network, point: Measurement) -> list[tuple[str, str, str]]:
    """(name, figure, remark) of what matters most."""
    remark = f", {_origin(point)}" if point.origin else "" if point.within else ", lossless"
    rows = [("complexity, bytes", f"{point.bits / 8:,.0f}", f"{point.bits:,.0f} bits{remark}")]
    if network.raw_bits:
        each = f"{point.bits / network.parameters:.3g} bits a parameter" if network.parameters else ""
        rows.append(("of the raw weights", percent(point.bits, network.raw_bits), each))
    if point.distortion is not None:
        loss = "" if point.coarse_loss is None or network.loss is None else f"loss {network.loss:.4g} → {point.coarse_loss:.4g}"
        rows.append(("distortion", f"{point.distortion:.4g}", loss))
    if point.agreement is not None:
        other = "" if point.held_out_agreement is None else f"{point.held_out_agreement:.4g} on held-out inputs"
        rows.append(("agreement", f"{point.agreement:.4g}", other))
    if point.spread is not None:
        size = math.exp(point.spread[0]) / 8
        rows.append(("searches, bytes", f"{size:,.0f} ± {size * point.spread[1]:,.0f}", "mean and standard deviation"))
    if point.bound:
        rows.append(("bound on error", rounded_up(point.bound.value, 4), "vacuous" if point.bound.vacuous else "not vacuous"))
    if point.warnings:
        rows.append(("warnings", f"{len(point.warnings)}", "; ".join(point.warnings)))
    if point.mdl_bits is not None:
        rows.append(("description, bytes", f"{point.mdl_bits / 8:,.0f}", "model and labels"))
    return rows


def _origin(point: Measurement) -> str:
    """What a file comes from, in words."""
    return "lossless" if point.origin == "lossless" else f"by {point.origin}"


def percent(part: float, whole: float | None) -> str:
    """A share with three digits.

    >>> percent(1, 3), percent(1, 4000)
    ('33.3 %', '0.025 %')
    """
    return f"{100 * part / whole:.3g} %" if whole else "–"


def _promise(bound: BoundValue | None) -> str:
    if bound is None:
        return ""
    if bound.vacuous:
        return "; the bound on unseen data that this gives is vacuous"
    sure = f" with probability {1 - bound.delta:.6g}" if bound.delta is not None else ""
    return f"; its error on unseen data is then at most {rounded_up(bound.value, 3)}{sure}"


def _over_training(run: Run, eps: float) -> str:
    measured = ((network.step, network.at(eps)) for network in run.networks)
    by_step = {step: point for step, point in measured if step is not None and point is not None}
    if not by_step:
        return f"{len(run.networks)} networks were measured; none with a training step at ε = {eps:g}."
    last = max(by_step)
    peak = max(by_step, key=lambda step: by_step[step].bits)
    end, top = by_step[last].bits / 8, by_step[peak].bits / 8
    promise = _promise(by_step[last].bound)
    if end < 0.8 * top and peak < last:
        return (
            f"Within ε = {eps:g}, complexity rose to {top:,.0f} bytes at step {peak:,g} and fell to {end:,.0f} bytes "
            f"({percent(end, top)}) by step {last:,g}{promise}."
        )
    return f"Within ε = {eps:g}, the network takes {end:,.0f} bytes at step {last:,g}, close to its peak of {top:,.0f}{promise}."


def _of_runs(runs: list[Run], eps: float) -> str:
    sizes = {run.label: point.bits / 8 for run in runs if (point := run.last.at(eps)) is not None}
    if not sizes:
        return f"{len(runs)} runs were measured; not all of them at ε = {eps:g}."
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    return f"Within ε = {eps:g}, {len(sizes)} runs end between {sizes[least]:,.0f} bytes ({least}) and {sizes[most]:,.0f} bytes ({most})."
