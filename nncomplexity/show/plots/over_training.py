"""A chart over training: bits at each ε against the training step, and further panels below."""

from collections.abc import Sequence

from nncomplexity.errors import InputError
from nncomplexity.show.plots.elements import Chart, Panel, in_one_unit
from nncomplexity.show.plots.results import Results
from nncomplexity.show.plots.runs import by_eps, keys_of, runs_note, steps_of
from nncomplexity.words import UNITS


def over_training(
    kind: str, title: str, results: Results, further: Sequence[Panel], *, eps: Sequence[float], mean: bool, unit: str
) -> Chart:
    """The chart with `further` panels below the bits.

    Args:
        kind: the name of the figure.
        title: its title.
        results: the networks.
        further: the panels of the other quantities.
        eps: which ε; none stands for all of them.
        mean: the mean over runs, instead of one line for each run.
        unit: "bytes" or "bits".

    Returns:
        The chart in plain data.

    Raises:
        InputError: the networks have no steps, or an ε was not measured.
    """
    chosen = results.chosen_eps(tuple(eps), over_training=True)
    sizes = by_eps(results, lambda point: point.bits / UNITS[unit], "complexity", eps=chosen, mean=mean, unit=unit)
    if not sizes:
        raise InputError(
            f"{kind}: no network has a training step; use step_pattern or step_key of track, or draw the kind rate-distortion or layers"
        )
    panels = in_one_unit([*sizes, *further])
    notes = runs_note(results, chosen, mean=mean)
    return Chart(kind, title, steps_of(panels, results.step_name), tuple(panels), notes=notes, keys=keys_of(panels), stepped=True)
