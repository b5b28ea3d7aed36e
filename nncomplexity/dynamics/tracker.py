"""Measures a network while it trains, from within the training loop."""

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
    """Measures the network at a training step: `row = tracker(step, model)`. Call it as often as you like.

    The rows are those of `track`, with null instead of the file's name and digest. If a network can't be measured, its row has
    `status` "failed". A row that can't be written is kept until it can. Each problem gives one warning, and the training goes on.
    The network and the random state do not change.

    Each training is a run of its own in the file. If its first step is later than all steps of the last run with the name, it
    continues that run. A script that starts again, or a process that runs at the same time, gets a run `name (2)`, and so on.

    Args:
        loss_fn: a deterministic function of the network; put a module in eval mode if that matters. Or a `Divergence`: each row
            then uses the outputs of the network at that step.
        eps: the distortion bound, or several.
        out: a results.jsonl to which the rows are added. If it exists, its rows must have the same settings.
        run: the name of the run in the rows.
        seed: the seed of the searches.
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
                    f"{name}: expected no such argument, because a Tracker is called with the network itself; leave it out"
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
            # In this order, because other threads wait at the first one.
            with preserved_random_state(), contextlib.redirect_stdout(sys.stderr):
                row = self._measured(start, model)
            line_of(row)  # a row that can't be written as JSON counts as failed
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # no error in a row may end the training
            row = failed_row(start, error)
            if not self._warned:
                self._warned = True
                warn(
                    f"step {step:g} could not be measured: {row['error']}; training goes on, and later failures are only in the rows"
                )
        if self._delivery is not None:
            self._delivery.deliver(row)
        return row

    def _measured(self, start: Row, model: ModuleOrTensors) -> Row:
        check_network(model)
        settings, loss_fn = self._settings, self._settings.loss_fn.get()
        if isinstance(model, nn.Module) and not (settings.risk_fn or settings.metrics):  # the search does not change it
            keeping: contextlib.AbstractContextManager[Mapping[str, Tensor]] = contextlib.nullcontext(tensors_of(model))
        else:  # a user's function may load the weights into the network that trains
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
        """Risk and metrics of the network with each of these weights."""
        if self._settings.risk_fn is None and not self._settings.metrics:
            return [UserValues() for _ in several]
        with _lent(model) as network:
            return [user_values(self._settings, partial(network, weights)) for weights in several]


@contextlib.contextmanager
def _lent(model: ModuleOrTensors) -> Iterator[Callable[[Mapping[str, Tensor]], ModuleOrTensors]]:
    """Lend the network with other weights: a fresh copy, or the network itself if it can't be copied.

    Its own weights are restored at the end.

    Yields:
        A function of weights that gives the network with them.
    """
    target = ModuleTarget(model) if isinstance(model, nn.Module) else MappingTarget(model)

    def network(weights: Mapping[str, Tensor]) -> ModuleOrTensors:
        target.renew()
        return target.load(weights)

    try:
        yield network
    finally:
        target.restore()


def _number(step: object) -> float:
    """The step in a form for a row. It is checked before the measurement, because a row that can't be written would waste time."""
    number = checked_number("step", step, "the training step, a finite number of at least 0", lambda value: value >= 0)
    return int(number) if number.is_integer() else number
