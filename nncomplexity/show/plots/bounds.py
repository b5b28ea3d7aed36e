"""The bound on the risk on unseen data over training, or over ε (Fig. 6 of DeMoss et al. 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nncomplexity.errors import InputError
from nncomplexity.show.plots.elements import NEUTRAL, Axis, Chart, Level, Line, Panel, heights
from nncomplexity.show.plots.results import Network, Results
from nncomplexity.show.plots.runs import by_eps, eps_of, keys_of, lines_of, over_eps, runs_note, runs_of, steps_of, trained

TITLE = "Bound on the error on unseen data"


def bounds(results: Results, *, eps: Sequence[float] = (), mean: bool = False) -> Chart:
    """The bound from the bits at each ε, with the value from which it is vacuous, and the test error if it is known.

    With several runs, the smallest bound over all ε is drawn. This choice costs nothing, because a prefix code's bound holds for all its
    files at once. If no run has several steps, bounds are drawn against ε.

    Raises:
        InputError: no bound was measured.
    """
    if not trained(results):
        return _against_eps(results, eps=results.chosen_eps(tuple(eps)), mean=mean)
    chosen = results.chosen_eps(tuple(eps), over_training=True)
    several = len(runs_of(results)) > 1 and not mean
    if several and len(chosen) > 1:
        lines = lines_of(results, lambda network: least_bound(network, chosen), mean=False)
    else:
        panels = by_eps(results, lambda point: point.bound.value if point.bound else None, "", eps=chosen, mean=mean, log=False)
        lines = list(panels[0].lines) if panels else []
    if not lines:
        raise InputError("bounds: no network with a training step has a bound; measure with risk_fn and n")
    errors = [replace(line, dash="dashed", label="") for line in test_errors(results, mean=mean)]
    if not several:
        errors = [replace(line, label="test error", colour=NEUTRAL) for line in errors]
    panel = _panel(results, [*lines, *errors])
    notes = _held(results)
    if several and len(chosen) > 1:
        notes.append("The smallest bound over the ε.")
    if several and errors:
        notes.append("Dashed: test error.")
    notes += runs_note(results, mean=mean)
    x = steps_of([panel], results.step_name)
    return Chart("bounds", TITLE, x, (panel,), tuple(notes), keys_of([panel]), stepped=True)


def _against_eps(results: Results, *, eps: Sequence[float], mean: bool) -> Chart:
    lines = over_eps(results, lambda point: point.bound.value if point.bound else None, eps=eps, mean=mean)
    if not lines:
        raise InputError("bounds: no network has a bound; measure with risk_fn and n")
    tests = sorted({name for network in results.networks for point in network.points for name in point.metrics if "test" in name})
    if tests and len(results.networks) == 1:
        name = tests[0]

        for line in over_eps(results, lambda point: _error_in(point.metrics, name), eps=eps, mean=False)[:1]:
            lines.append(replace(line, label="test error", colour=NEUTRAL, dash="dashed"))
    panel = _panel(results, lines)
    notes = (*_held(results), *runs_note(results, mean=mean))
    return Chart("bounds", TITLE, eps_of([panel]), (panel,), notes, keys_of([panel]))


def _panel(results: Results, lines: Sequence[Line]) -> Panel:
    # All possible error rates are on the axis, and bounds may be larger.
    top = max([1.0, *heights(lines)])
    return Panel(Axis("error on unseen data", limits=(0, 1.08 * top)), tuple(lines), (Level(chance_of(results), "vacuous"),))


def _held(results: Results) -> list[str]:
    delta = delta_of(results)
    return [f"Bounds hold with probability {1 - delta:.6g} over the draw of the training examples."] if delta is not None else []


def least_bound(network: Network, eps: Sequence[float]) -> float | None:
    """The smallest bound among the network's files."""
    return min((point.bound.value for point in network.points if point.bound and point.eps in eps), default=None)


def test_errors(results: Results, *, mean: bool) -> list[Line]:
    """The error of the original weights on test examples, from the first metric with "test" in its name."""
    names = sorted({name for network in results.networks for name in network.metrics if "test" in name})
    if not names:
        return []
    return lines_of(results, lambda network: _error_in(network.metrics, names[0]), mean=mean)


def _error_in(metrics: Mapping[str, float], name: str) -> float | None:
    """The metric of this name as an error rate; None if it is missing. A metric that is no error is an accuracy."""
    found = metrics.get(name)
    return found if found is None or name.endswith("error") else 1 - found


def chance_of(results: Results) -> float:
    """The value from which a bound is vacuous: the smallest chance in the files, or 1 if they have none."""
    points = [point for network in results.networks for point in network.points]
    return min((point.bound.chance for point in points if point.bound and point.bound.chance is not None), default=1.0)


def delta_of(results: Results) -> float | None:
    """The failure probability of the bounds; None if the files don't have it, or differ."""
    found = {point.bound.delta for network in results.networks for point in network.points if point.bound}
    return found.pop() if len(found) == 1 else None
