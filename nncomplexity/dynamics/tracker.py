"""Rows of a network while it trains, from within the training loop."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from nncomplexity.dynamics.delivery import Delivery, warn
from nncomplexity.dynamics.job import learning_coefficient, user_values, zero_risk
from nncomplexity.dynamics.results_file import line_of
from nncomplexity.dynamics.rows import UserValues, failed_row, head, l2_norm, measured_row
from nncomplexity.dynamics.settings import Given, Row, RowOptions, TrackSettings, settings_of
from nncomplexity.errors import InputError
from nncomplexity.measure import SeveralEps, checked_seed, estimate
from nncomplexity.network import (
    MappingTarget,
    ModuleOrTensors,
    ModuleTarget,
    check_network,
    left_as_it_was,
    preserved_random_state,
    tensors_of,
)
from nncomplexity.words import Eps, checked_number


class Tracker:
    """Measures a live network: `row = tracker(step, model)`, as often as the training loop likes.

    The rows are those of `track`, with null in the place of the file's name and digest. A network that can't be measured gives a row with
    `status` "failed", and a row that can't be written is kept until it can; either is said once, as a warning, and training goes on. The
    network is left as it is, and the random state too.

    Each training is a run of its own in the file. One whose first step is beyond those of the last run of the name goes on with it; a
    script that is run again, and a process beside another one, have a run `name (2)`, and so on.

    Args:
        loss_fn: a function of the network, deterministic: it puts a module in eval mode where that matters. Or a `Divergence`: each row is
            then measured by the outputs of the network as it is at that step.
        eps: the distortion bound, or several.
        out: a results.jsonl to which the rows are added; one that exists must hold rows of the same settings.
        run: the name of the run in the rows.
        seed: of the searches.
        settings: `method`, `codec`, `budget`, `include`, `exclude`, `risk_fn`, `n`, `delta`, `metrics`, `llc` and `faithfulness`, as
            `track` takes them.

    Raises:
        InputError: an argument isn't usable.

    >>> model = nn.Linear(64, 8)
    >>> tracker = Tracker(lambda network: (network.weight ** 2).mean(), eps=0.1, method="quantize", budget=20)
    >>> row = tracker(1, model)
    >>> row["status"], row["step"], row["bits@0.1"] < row["raw_bits"]
    ('measured', 1, True)
    """

    def __init__(
        self,
        loss_fn: Given,
        eps: Eps | SeveralEps,
        *,
        out: str | os.PathLike[str] | None = None,
        run: str | None = None,
        seed: int = 0,
        **settings: Unpack[RowOptions],
    ) -> None:
        for name in ("model", "key"):
            if name in settings:
                raise InputError(
                    f"{name}: expected no such argument, since a Tracker is called with the network itself; leave it out"
                )
        self._settings: TrackSettings = settings_of(loss_fn, eps, **settings)
        if run is not None and not isinstance(run, str):
            raise InputError(f"run: expected the name of the run, a text, or None, got {run!r}")
        self._run, self._seed = run, checked_seed(seed)
        self._delivery = None if out is None else Delivery(out, self._settings, run, self._seed)
        self._warned = False

    def __call__(self, step: float, model: ModuleOrTensors) -> Row:
        """The network's row at this step, which also goes to `out`.

        Raises:
            InputError: the step is no finite number; one of NumPy's or a tensor of one element is taken as Python's.
            KeyboardInterrupt: Ctrl-C came.
        """
        step = _number(step)
        about = {"kind": "checkpoint", "status": "measured", "run": self._run, "checkpoint": None, "sha256": None}
        start = head(self._settings, **about, step=step, step_from="the training loop", seed=self._seed)
        try:
            # In this order, as threads take turns at the first.
            with preserved_random_state(), contextlib.redirect_stdout(sys.stderr):
                row = self._measured(start, model)
            line_of(row)  # what has no form in a file has failed, too
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # training is worth more than one row
            row = failed_row(start, error)
            if not self._warned:
                self._warned = True
                warn(f"step {step:g} could not be measured: {row['error']}; training goes on, and of further ones only rows tell")
        if self._delivery is not None:
            self._delivery.deliver(row)
        return row

    def _measured(self, start: Row, model: ModuleOrTensors) -> Row:
        check_network(model)
        settings, loss_fn = self._settings, self._settings.loss_fn.get()
        if isinstance(model, nn.Module) and not (settings.risk_fn or settings.metrics):  # the search leaves it as it was
            keeping: contextlib.AbstractContextManager[Mapping[str, Tensor]] = contextlib.nullcontext(tensors_of(model))
        else:  # a function of the user's may load what it is given into the live network
            keeping = left_as_it_was(model)
        with keeping as tensors:
            network = model if isinstance(model, nn.Module) else tensors
            norm = l2_norm(tensors)
            (original,) = self._values(network, [tensors])
            llc = learning_coefficient(settings, loss_fn, network, self._seed)
            reports = estimate(network, loss_fn, settings.eps, **settings.options(self._seed))
            coarse = self._values(network, [report.coarse_weights() for report in reports])
            with _lent(network) as lent:
                nothing = zero_risk(settings, lent, tensors)
            return measured_row(start, settings, norm, reports, original, coarse, llc, nothing)

    def _values(self, model: ModuleOrTensors, several: Sequence[Mapping[str, Tensor]]) -> list[UserValues]:
        """Risk and metrics of the network under each of these weights."""
        if self._settings.risk_fn is None and not self._settings.metrics:
            return [UserValues() for _ in several]
        with _lent(model) as network:
            return [user_values(self._settings, partial(network, weights)) for weights in several]


@contextlib.contextmanager
def _lent(model: ModuleOrTensors) -> Iterator[Callable[[Mapping[str, Tensor]], ModuleOrTensors]]:
    """Gives the network with other weights: a copy that has held none before or, where it can't be copied, itself, in the end as it was."""
    target = ModuleTarget(model) if isinstance(model, nn.Module) else MappingTarget(model)

    def network(weights: Mapping[str, Tensor]) -> ModuleOrTensors:
        target.renew()
        return target.load(weights)

    try:
        yield network
    finally:
        target.restore()


def _number(step: object) -> float:
    """The step as a row can hold it. It is checked before anything is measured: a row that can't be written is time lost."""
    number = checked_number("step", step, "the training step, a finite number of at least 0", lambda value: value >= 0)
    return int(number) if number.is_integer() else number
