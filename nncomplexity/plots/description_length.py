"""Description length of model and training labels over training (Fig. 11 of DeMoss et al. 2025)."""

from collections.abc import Sequence

from nncomplexity.errors import InputError
from nncomplexity.plots.chart import Chart
from nncomplexity.plots.results import Results
from nncomplexity.plots.runs import UNITS, by_eps, runs_note, steps_of


def description_length(results: Results, *, eps: Sequence[float] = (), mean: bool = False, unit: str = "bytes") -> Chart:
    """bits + n·loss/ln 2 of the decoded weights at each ε against training steps (Eq. 8).

    Raises InputError where none was measured, or no network has a step.
    """
    chosen = results.chosen_eps(tuple(eps), over_training=True)
    panels = by_eps(
        results,
        lambda point: None if point.mdl_bits is None else point.mdl_bits / UNITS[unit],
        f"description length ({unit})",
        eps=chosen,
        mean=mean,
    )
    if not panels:
        raise InputError("description-length: no network with a training step has one; measure with --n")
    title = "Description length of model and labels"
    return Chart("description-length", title, steps_of(panels), tuple(panels), runs_note(results, chosen, mean=mean))
