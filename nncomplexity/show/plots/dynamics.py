"""Complexity and accuracy over training (Figs. 2, 3 and 5 of DeMoss et al. 2025)."""

from collections.abc import Sequence
from dataclasses import replace

from nncomplexity.show.plots.elements import DASHES, LOW, Axis, Chart, Line, Panel, heights
from nncomplexity.show.plots.over_training import over_training
from nncomplexity.show.plots.results import Network, Results
from nncomplexity.show.plots.runs import lines_of, runs_of, styled


def dynamics(results: Results, *, eps: Sequence[float] = (), mean: bool = False, unit: str = "bytes") -> Chart:
    """Bits of the smallest file at each ε against training steps, and below them the accuracies of the original weights.

    Step 0 is drawn to the left of the first other step.

    Raises:
        InputError: the networks have no steps.
    """
    accuracy = accuracies(results, mean=mean)
    return over_training(
        "dynamics",
        "Complexity over training",
        results,
        [accuracy] if accuracy else [],
        eps=eps,
        mean=mean,
        unit=unit,
    )


def accuracies(results: Results, *, mean: bool = False) -> Panel | None:
    """The metrics whose names end in "accuracy", or in "error" (as 1 − error). None if there are none."""
    names = sorted({name for network in results.networks for name in network.metrics}, key=_order)
    found = [(name, lines_of(results, lambda network, name=name: accuracy_of(network, name), mean=mean)) for name in names]  # type: ignore[misc]
    found = [(name, lines) for name, lines in found if lines]
    if not found:
        return None
    lines: list[Line] = []
    alone = len(found) == 1
    single = mean or (len(runs_of(results)) == 1 and all(len(some) == 1 for _, some in found))
    for index, (name, some) in enumerate(found):
        dash = DASHES[index % len(DASHES)]
        if single:
            lines += [replace(styled(line, index), label=_said(name), dash=dash) for line in some]
        elif alone:
            lines += some
        else:
            lines += [replace(line, dash=dash) for line in some]
    dashes = (f"{_said(name)} {dash}" for (name, _), dash in zip(found, DASHES, strict=False))
    title = "" if single else f"accuracy: {', '.join(dashes)}"
    # All accuracies from 0 to 1 are shown, with room for a line at either end.
    every = [*heights(lines), -0.03, 1.03]
    return Panel(
        Axis("accuracy", limits=(min(every), max(every))), tuple(lines), title="" if alone and single else title, share=LOW
    )


def accuracy_of(network: Network, name: str) -> float | None:
    """A metric of the original weights as an accuracy; None if the network doesn't have it."""
    value = network.metrics.get(name)
    if value is None:
        return None
    return 1 - value if name.endswith("error") else value


def _said(name: str) -> str:
    return name.removesuffix("error").removesuffix("accuracy").rstrip("_ ").replace("_", " ") or "accuracy"


def _order(name: str) -> tuple[bool, str]:
    """A sorting key: test metrics come first, and get the solid line."""
    return ("test" not in name, name)
