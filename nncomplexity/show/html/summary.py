"""A summary of the results: a title, a sentence, and the key figures of one network at one ε."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from nncomplexity.bounds import rounded_up
from nncomplexity.show.plots.names import name_of_path
from nncomplexity.show.plots.results import BoundValue, Measurement, Network, Results
from nncomplexity.show.plots.runs import Run, network_name, runs_of, trained
from nncomplexity.show.plots.seeds import by_checkpoint, mean_over


def first_eps(results: Results) -> float:
    """The first ε of a page: the middle one of those that were measured for all networks."""
    found = results.eps_over_training
    return found[len(found) // 2]


def first_network(results: Results, eps: float) -> Network:
    """The last network of the first run that was measured at ε."""
    lasts = [run.last for run in runs_of(results)]
    return next((network for network in lasts if network.at(eps)), next(one for one in results.networks if one.at(eps)))


def page_title(results: Results) -> str:
    """The title, from the names in the paths."""
    runs, networks = runs_of(results), by_checkpoint(results.networks)
    if len(runs) > 1:
        return f"Complexity of {len(runs)} runs"
    if len(networks) == 1:
        name = name_of_path(networks[0][0].checkpoint) or name_of_path(networks[0][0].run)
        return f"Complexity of {name or 'a network'}"
    if name := name_of_path(runs[0].networks[0].run):
        return f"Complexity of {name}"
    return "Complexity over training" if trained(results) else f"Complexity of {len(networks)} networks"


def verdict(results: Results, eps: float) -> str:
    """One sentence on the bytes, their change over training, and the bound."""
    runs = runs_of(results)
    if len(runs) > 1:
        return _of_runs(runs, eps)
    if trained(results):
        return _over_training(runs[0], eps, results.step_name)
    network = first_network(results, eps)
    seeds = next(seeds for seeds in by_checkpoint(results.networks) if any(one is network for one in seeds))
    point, promise = mean_over(seeds).at(eps), _best_promise(seeds, eps)
    assert point is not None
    share = f", {percent(point.bits, network.raw_bits)} of its {network.raw_bits / 8:,.0f} raw bytes" if network.raw_bits else ""
    base = network.settings.get("relative_to")
    beyond = f" beyond {base}" if base else ""
    return f"Within ε = {eps:g}, what the network has learned{beyond} fits in {point.bits / 8:,.0f} bytes{share}{_over(seeds)}{promise}."


def name_of(network: Network, results: Results, *, seed: bool = True) -> str:
    """The name of a network on a page: its run if there are several, its step or its file, and its seed if there are several."""
    several, run = len(runs_of(results)) > 1, run_labels(results)[id(network)]
    own = f"{results.step_name} {network.step:,.10g}" if network.step is not None else network_name(network)
    which = f", seed {network.seed}" if seed and _searches(results)[_place(network)] > 1 else ""
    return f"{run}, {own}{which}" if several and own != run else f"{own}{which}"


@lru_cache(maxsize=8)
def run_labels(results: Results) -> dict[int, str]:
    """The label of each network's run, by the network's `id`."""
    return {id(one): run.label for run in runs_of(results) for one in run.networks}


@lru_cache(maxsize=8)
def _searches(results: Results) -> Counter[tuple[object, ...]]:
    return Counter(map(_place, results.networks))


def _place(network: Network) -> tuple[object, ...]:
    return network.run, network.step, network.checkpoint


def key_figures(network: Network, point: Measurement) -> list[tuple[str, str, str]]:
    """The most important figures, as (name, figure, remark)."""
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
    """The origin of a file, in words."""
    return "lossless" if point.origin == "lossless" else f"by {point.origin}"


def percent(part: float, whole: float | None) -> str:
    """A share with three digits.

    >>> percent(1, 3), percent(1, 4000)
    ('33.3 %', '0.025 %')
    >>> percent(30, 1)
    '3,000 %'
    """
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:,.0f} %" if share >= 1000 else f"{share:.3g} %"


def _promise(bound: BoundValue | None) -> str:
    if bound is None:
        return ""
    if bound.vacuous:
        return "; the bound on unseen data from these bits is vacuous"
    sure = f" with probability {1 - bound.delta:.6g}" if bound.delta is not None else ""
    return f"; its error on unseen data is then at most {rounded_up(bound.value, 3)}{sure}"


def _best_promise(networks: Sequence[Network], eps: float) -> str:
    """The smallest bound among seeds. The bound holds for all files at once, so this choice is free."""
    bounds = [point.bound for network in networks if (point := network.at(eps)) and point.bound]
    return _promise(min(bounds, key=lambda bound: bound.value, default=None))


def _over(seeds: Sequence[Network]) -> str:
    what = "seeds" if len(by_checkpoint(seeds)) == 1 else "networks"
    return f" (mean of {len(seeds)} {what})" if len(seeds) > 1 else ""


def _over_training(run: Run, eps: float, word: str) -> str:
    by_step: dict[float, list[Network]] = {}
    for network in run.networks:
        if network.step is not None and network.at(eps) is not None:
            by_step.setdefault(network.step, []).append(network)
    if not by_step:
        return f"{len(run.networks)} networks were measured; none with a training step at ε = {eps:g}."
    sizes = {step: statistics.fmean(_bytes(one, eps) for one in networks) for step, networks in by_step.items()}
    last, peak = max(sizes), max(sizes, key=sizes.__getitem__)
    end, top = sizes[last], sizes[peak]
    promise = _over(by_step[last]) + _best_promise(by_step[last], eps)
    if end < 0.8 * top and peak < last:
        return (
            f"Within ε = {eps:g}, complexity rose to {top:,.0f} bytes at {word} {peak:,.10g} and fell to {end:,.0f} bytes "
            f"({percent(end, top)}) by {word} {last:,.10g}{promise}."
        )
    return (
        f"Within ε = {eps:g}, the network takes {end:,.0f} bytes at {word} {last:,.10g}, close to its peak of {top:,.0f}{promise}."
    )


def _bytes(network: Network, eps: float) -> float:
    point = network.at(eps)
    assert point is not None
    return point.bits / 8


def _of_runs(runs: Sequence[Run], eps: float) -> str:
    sizes, several = {}, False
    for run in runs:
        seeds = next(seeds for seeds in by_checkpoint(run.networks) if any(one is run.last for one in seeds))
        several |= len(seeds) > 1
        if (point := mean_over(seeds).at(eps)) is not None:
            sizes[run.label] = point.bits / 8
    if not sizes:
        return f"{len(runs)} runs were measured; not all of them at ε = {eps:g}."
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    means = ", means over seeds" if several else ""
    ends = f"{sizes[least]:,.0f} bytes ({least}) and {sizes[most]:,.0f} bytes ({most}){means}"
    return f"Within ε = {eps:g}, {len(sizes)} runs end between {ends}."
