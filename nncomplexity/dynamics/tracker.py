"""Rows of a network while it trains, from within the training loop."""

import contextlib
import copy
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.arguments import SeveralEps, checked_seed
from nncomplexity.distortion import preserved_random_state
from nncomplexity.dynamics.job import learning_coefficient, user_values
from nncomplexity.dynamics.results_file import ResultsFile
from nncomplexity.dynamics.rows import failed_row, head, l2_norm, measured_row
from nncomplexity.dynamics.settings import Given, Row, Settings, settings_of
from nncomplexity.errors import InputError
from nncomplexity.estimate import estimate
from nncomplexity.modulestate import left_as_it_was, tensors_of
from nncomplexity.paths import path_of
from nncomplexity.plain import is_number, plain_number
from nncomplexity.taskmodule import Task
from nncomplexity.weights import check_network


class Tracker:
    """Measures a live network: `row = tracker(step, model)`, as often as the training loop likes.

    The rows are those of `track`, with null in the place of the file's name and digest. A network that can't be measured gives a row with
    `status` "failed", and training goes on. The network is left as it is, and the random state too.

    Args:
        loss_fn: a function of the network, deterministic: it puts a module in eval mode where that matters.
        eps: the distortion bound, or several.
        out: a results.jsonl to which the rows are added; one that exists must hold rows of the same settings.
        run: the name of the run in the rows.
        seed: of the searches.
        settings: `method`, `codec`, `budget`, `include`, `exclude`, `risk_fn`, `n`, `delta`, `metrics` and `llc`, as `track` takes them.

    Raises InputError where an argument isn't usable.

    >>> model = nn.Linear(64, 8)
    >>> tracker = Tracker(lambda network: (network.weight ** 2).mean(), eps=0.1, method="quantize", budget=20)
    >>> row = tracker(1, model)
    >>> row["status"], row["step"], row["bits@0.1"] < row["raw_bits"]
    ('measured', 1, True)
    """

    def __init__(
        self,
        loss_fn: Given,
        eps: float | SeveralEps,
        *,
        out: str | os.PathLike[str] | None = None,
        run: str | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        for name in ("model", "key"):
            if name in settings:
                raise InputError(
                    f"{name}: expected no such argument, since a Tracker is called with the network itself; leave it out"
                )
        self._settings: Settings = settings_of(loss_fn, eps, **settings)
        if run is not None and not isinstance(run, str):
            raise InputError(f"run: expected the name of the run, a text, or None, got {run!r}")
        # As it is now: a training loop may change the folder.
        self._out = None if out is None else os.path.abspath(path_of(out, "out"))  # noqa: PTH100 -- links stay
        self._run, self._seed = run, checked_seed(seed)
        if out is not None:
            with ResultsFile(out) as file:
                file.check_settings(self._settings)

    def __call__(self, step: float, model: nn.Module | Mapping[str, Tensor]) -> Row:
        """The network's row at this step, which also goes to `out`.

        Raises InputError where the step is no finite number; one of NumPy's or a tensor of one element is taken as Python's.
        """
        step = _number(step)
        about = {"kind": "checkpoint", "status": "measured", "run": self._run, "checkpoint": None, "sha256": None}
        start = head(self._settings, **about, step=step, seed=self._seed)
        with preserved_random_state(), contextlib.redirect_stdout(sys.stderr):  # in this order, as threads take turns at the first
            try:
                row = self._measured(start, model)
            except Exception as error:  # training is worth more than one row
                row = failed_row(start, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        if self._out is not None:
            with ResultsFile(self._out) as file:
                file.append(row)
        return row

    def _measured(self, start: Row, model: nn.Module | Mapping[str, Tensor]) -> Row:
        check_network(model)
        settings = self._settings
        if isinstance(model, nn.Module) and not (settings.risk_fn or settings.metrics):  # the search leaves it as it was
            keeping: contextlib.AbstractContextManager[Mapping[str, Tensor]] = contextlib.nullcontext(tensors_of(model))
        else:  # a function of the user's may load what it is given into the live network
            keeping = left_as_it_was(model)
        with keeping as tensors:
            norm = l2_norm(tensors)
            device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
            risk_fn = None if settings.risk_fn is None else settings.risk_fn.get()
            task = Task(settings.loss_fn.get(), None, risk_fn, device)
            if isinstance(model, nn.Module) and (settings.risk_fn or settings.metrics):
                task = replace(task, build=lambda: copy.deepcopy(model))
            network = model if isinstance(model, nn.Module) else tensors
            original = user_values(task, settings, tensors)
            llc = learning_coefficient(settings, task.loss_fn, network, self._seed)
            reports = estimate(network, task.loss_fn, settings.eps, **settings.options(self._seed))
            coarse = [user_values(task, settings, report.coarse_weights()) for report in reports]
            return measured_row(start, settings, norm, reports, original, coarse, llc)


def _number(step: Any) -> float:
    """The step as a row can hold it. It is checked before anything is measured: a row that can't be written is time lost."""
    try:
        found = plain_number(step.item() if hasattr(step, "item") else step)
    except (RuntimeError, ValueError):  # a tensor or an array of several
        found = None
    if not is_number(found) or math.isinf(found) or found < 0:
        came = step if found is None else found
        raise InputError(f"step: expected a finite number of at least 0, got {came!r}; give the training step")
    return found
