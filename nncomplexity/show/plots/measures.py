"""Complexity and other measures over training: losses, the norm, ranks, bzip2, the local learning coefficient."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nncomplexity.show.plots.elements import LOW, Chart, Line, Panel, heights, values_axis
from nncomplexity.show.plots.over_training import over_training
from nncomplexity.show.plots.results import Network, Results
from nncomplexity.show.plots.runs import Quantity, levels_of, lines_of
from nncomplexity.words import UNITS

LLC, CHAINS = "learning coefficient", "± standard error over chains"
BZIP2 = "bzip2"


def measures(results: Results, *, eps: Sequence[float] = (), mean: bool = False, unit: str = "bytes") -> Chart:
    """Bits at each ε against training steps, and below them a panel for each other measure of the original weights.

    Raises:
        InputError: the networks have no steps.
    """
    further = other_measures(results, mean=mean, unit=unit)
    return over_training("measures", "Complexity and other measures", results, further, eps=eps, mean=mean, unit=unit)


def other_measures(results: Results, *, mean: bool = False, unit: str = "bytes") -> list[Panel]:
    """A panel for each measure that some network with a step has."""
    panels = []
    for label, value in _values(results, unit):
        lines, title = lines_of(results, value, mean=mean), ""
        if not lines:
            continue
        if label == LLC and not any(line.error for line in lines):
            # A standard error over seeds is drawn instead, if there is one.
            lines = _with_chains(lines, results)
            title = CHAINS if any(line.error for line in lines) else ""
        levels = levels_of(results, value)
        axis = values_axis(label, heights(lines, levels), unit=unit if label == BZIP2 else "")
        panels.append(Panel(axis, tuple(lines), tuple(levels), title=title, share=LOW))
    return panels


def _values(results: Results, unit: str) -> Iterator[tuple[str, Quantity]]:
    """The label of each measure, and its value for one network."""
    yield "loss", lambda network: network.loss
    for name in sorted({name for network in results.networks for name in network.others}):
        yield name.replace("_", " "), lambda network, name=name: network.others.get(name)  # type: ignore[misc]
    yield "L2 norm", lambda network: network.l2_norm
    yield "effective rank", lambda network: network.effective_rank
    yield BZIP2, lambda network: _bzip2(network, unit)
    yield LLC, lambda network: network.llc


def _bzip2(network: Network, unit: str) -> float | None:
    return None if network.bzip2_bits is None else network.bzip2_bits / UNITS[unit]


def _with_chains(lines: Sequence[Line], results: Results) -> list[Line]:
    """Lines whose bands are the standard error over chains, if each of their points has one."""
    errors = {(line.label, line.x): line.y for line in lines_of(results, lambda network: network.llc_error, mean=False)}
    return [replace(line, error=errors.get((line.label, line.x), ())) for line in lines]
