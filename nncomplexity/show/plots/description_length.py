"""Description length of model and training labels over training, or over ε (Fig. 11 of DeMoss et al. 2025)."""

from collections.abc import Sequence

from nncomplexity.errors import InputError
from nncomplexity.show.plots.elements import Chart, Panel, heights, values_axis
from nncomplexity.show.plots.results import Measurement, Results
from nncomplexity.show.plots.runs import by_eps, eps_of, keys_of, over_eps, runs_note, steps_of, trained
from nncomplexity.words import UNITS


def description_length(results: Results, *, eps: Sequence[float] = (), mean: bool = False, unit: str = "bytes") -> Chart:
    """bits + n·loss/ln 2 of the decoded weights at each ε against training steps, or against ε if no run has several (Eq. 8).

    Raises:
        InputError: none was measured.
    """

    def value(point: Measurement) -> float | None:
        return None if point.mdl_bits is None else point.mdl_bits / UNITS[unit]

    stepped = trained(results)
    chosen = results.chosen_eps(tuple(eps), over_training=stepped)
    label = "description length"
    if stepped:
        panels = by_eps(results, value, label, eps=chosen, mean=mean, unit=unit)
    else:
        lines = over_eps(results, value, eps=chosen, mean=mean)
        panels = [Panel(values_axis(label, heights(lines), unit=unit), tuple(lines))] if lines else []
    if not panels:
        raise InputError("description-length: no network has a description length; measure with n and a loss of at least 0")
    return Chart(
        "description-length",
        "Description length of model and labels",
        steps_of(panels, results.step_name) if stepped else eps_of(panels),
        tuple(panels),
        notes=runs_note(results, chosen if stepped else (), mean=mean),
        keys=keys_of(panels),
        stepped=stepped,
    )
