"""Measures a network while it trains, from within the training loop."""

import os
from collections import deque
from concurrent.futures import Executor
from types import TracebackType
from typing import Unpack, cast

from nncomplexity.dynamics import metric_names
from nncomplexity.dynamics.background import Background, check_imported_by_no_process, executor_elsewhere
from nncomplexity.dynamics.delivery import Delivery, warn
from nncomplexity.dynamics.live_row import live_row, packed_network, packed_settings
from nncomplexity.dynamics.rows import failed_row, head
from nncomplexity.dynamics.schedule import Every, Schedule
from nncomplexity.dynamics.settings import Given, Row, RowOptions, TrackSettings, settings_of
from nncomplexity.errors import InputError
from nncomplexity.measure import SeveralEps, checked_seed
from nncomplexity.network import ModuleOrTensors, Snapshot, unwrapped
from nncomplexity.words import Eps, checked_count, checked_number

_KEPT = 1000
"""The largest number of rows that `ready` keeps, because a caller may never ask for them."""


QUEUE = 4
"""The default number of networks that may wait in the background."""


class TrackerOptions(RowOptions, total=False):
    """The options of a `Tracker`: its arguments except loss, ε, file, run and seed."""

    every: Every
    """The steps at which a call measures: a number n for every n steps, a `LogSchedule`, or None for each call."""
    background: bool
    """Measure in another process."""
    executor: Executor | None
    """An executor with processes that measure instead."""
    queue: int
    """The number of networks that may wait in the background; the default is 4."""


class Tracker:
    """Measures the network at a training step: `row = tracker(step, model)`. Call it at every step; `every` selects the steps.

    The rows are those of `track`, with null instead of the file's name and digest. If a network can't be measured, its row has
    `status` "failed". If a row can't be written, it is kept and written later. Each problem gives one warning, and the training goes on.
    The network and the random state do not change. For a network inside DistributedDataParallel, DataParallel or torch.compile, the inner
    network is measured.

    With `background=True`, the call copies the network to the CPU and returns None at once. Another process measures the copy with one
    thread. Its row is the one that this process would give with one thread. `ready()` returns the finished rows in the order of the steps,
    and `close()` waits for the others. The training must be below `if __name__ == "__main__":`, and the functions at the top level of a
    module. Used as a context manager, the tracker closes itself.

    Each training has its own run in the file. If its first step is later than all steps of the last run with the name, it
    continues that run. After `resume()` it always continues that run. A script that starts again, or a process that runs at the same time,
    gets a run `name (2)`, and so on.

    Args:
        loss_fn: a deterministic function of the network; put a module in eval mode if that makes a difference. Or a `Divergence`: each row
            then compares with the outputs of the network at that step.
        eps: the distortion bound, or several.
        out: a results.jsonl to which the rows are added. If it exists, its rows must have the same settings.
        run: the name of the run in the rows.
        seed: the seed of the searches.
        options: `every`, the steps at which a call measures: a number n for every n steps, a `LogSchedule`, or None for each call. A call at
            another step returns None. `background`: measure in another process, with one thread and a low priority, on the device `device`.
            `executor`: an executor with processes that measure instead; the caller shuts it down. `queue`: the number of networks that may
            wait in the background; when they are this many, a further network is left out, and counted in `skipped`. The other options are
            those of `track`: `method`, `codec`, `budget`, `include`, `exclude`, `risk_fn`, `n`, `delta`, `metrics`, `llc`, `critical_bits`,
            `faithfulness`, `relative_to` and `time_limit`.

    Attributes:
        every: the steps at which a call measures, as the caller gave them.
        background: whether another process measures.
        skipped: the number of networks that were left out because too many waited.
        numbers: a function that gives the numbers of a row under names that TensorBoard, W&B and MLflow accept.

    Raises:
        InputError: an argument isn't usable.

    >>> from torch import nn
    >>> model = nn.Linear(64, 8)
    >>> tracker = Tracker(lambda network: (network.weight ** 2).mean(), eps=0.1, method="quantize", budget=20, every=100)
    >>> row = tracker(100, model)
    >>> row["status"], row["step"], row["bits@0.1"] < row["raw_bits"]
    ('measured', 100, True)
    >>> tracker(101, model) is None, tracker.numbers(row)["complexity/bits_at_0.1"] == row["bits@0.1"]
    (True, True)
    """

    numbers = staticmethod(metric_names.numbers)

    def __init__(
        self,
        loss_fn: Given,
        eps: Eps | SeveralEps,
        *,
        out: str | os.PathLike[str] | None = None,
        run: str | None = None,
        seed: int = 0,
        **options: Unpack[TrackerOptions],
    ) -> None:
        for name in ("model", "key"):
            if name in options:
                raise InputError(
                    f"{name}: expected no such argument, because a Tracker is called with the network itself; leave it out"
                )
        every, executor = options.pop("every", None), executor_elsewhere(options.pop("executor", None))
        background, room = options.pop("background", False), checked_count("queue", options.pop("queue", QUEUE), 1)
        self._settings: TrackSettings = settings_of(loss_fn, eps, **cast(RowOptions, options))
        if run is not None and not isinstance(run, str):
            raise InputError(f"run: expected the name of the run, a text, or None, got {run!r}")
        self._run, self._seed, self._schedule = run, checked_seed(seed), Schedule(every)
        self.every, self.background = every, bool(background) or executor is not None
        if self.background:
            check_imported_by_no_process()
            self._packed_settings = packed_settings(self._settings, executor)
        # The `Background` is made when it is needed: it has locks, and without it a tracker can be sent to the training processes.
        self._executor, self._room = executor, room
        self._delivery = None if out is None else Delivery(out, self._settings, run, self._seed)
        self._ready: deque[Row] = deque(maxlen=_KEPT)
        self._measured: set[float] = set()
        self._elsewhere: Background | None = None
        self._warned = False
        self.skipped = 0

    def __call__(self, step: float, model: ModuleOrTensors) -> Row | None:
        """The network's row at this step, which is also written to `out`. None at a step that isn't due, or if another process measures.

        Raises:
            InputError: the step is no finite number. A NumPy number or a tensor of one element is accepted.
            KeyboardInterrupt: the user pressed Ctrl-C.
        """
        step = _number(step)
        # `due` is asked first, because it remembers the last step and must see every one.
        if not self._schedule.due(step) or step in self._measured:
            return None
        about = {"kind": "checkpoint", "status": "measured", "run": self._run, "checkpoint": None, "sha256": None}
        start = head(self._settings, **about, step=step, step_from="the training loop", seed=self._seed)
        if self.background:
            self._hand_over(start, model)
            return None
        row = live_row(start, unwrapped(model), self._settings)
        self._take(row)
        return row

    def ready(self) -> list[Row]:
        """The rows since the last call, in the order of their steps; at most the last 1000."""
        rows = list[Row]()
        while self._ready:
            rows.append(self._ready.popleft())
        return rows

    def resume(self) -> bool:
        """Say that this training continues from a checkpoint of the last run with this name in `out`.

        Steps that have a row in this run are not measured again, and later rows are added to this run.

        Returns:
            Whether these steps are known. Without `out`, they are not.
        """
        if self._delivery is None:
            return False
        self._measured |= self._delivery.resume()
        return True

    def close(self, wait: bool = True) -> None:
        """Wait for the networks that are measured in the background, and end the measuring process. A later call starts it again.

        Args:
            wait: False drops the waiting networks, which then have no rows.
        """
        if self._elsewhere is not None:
            self._elsewhere.close(wait)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close(wait=kind is None)

    def _hand_over(self, start: Row, model: ModuleOrTensors) -> None:
        elsewhere = self._elsewhere = self._elsewhere or Background(self._executor, self._room, self._take)
        if elsewhere.full:
            self.skipped += 1
            if self.skipped == 1:
                warn(
                    f"step {start['step']:g} was left out, because measuring is slower than training; give every= more steps, or a "
                    "smaller budget=; training goes on, and `skipped` counts such steps"
                )
            return
        try:
            content = packed_network(Snapshot.of(unwrapped(model)), self._packed_settings, self._executor)
        except Exception as error:  # the user's classes may raise anything when they are copied
            self._take(failed_row(start, error))
        else:
            elsewhere.submit(start, content)

    def _take(self, row: Row) -> None:
        """Write a finished row and keep it for `ready`. With a `Background`, one of its threads calls this."""
        if row["status"] == "failed" and not self._warned:
            self._warned = True
            warn(
                f"step {row['step']:g} could not be measured: {row['error']}; training goes on, and later failures are only in the rows"
            )
        if self._delivery is not None:
            self._delivery.deliver(row)
        self._ready.append(row)


def _number(step: object) -> float:
    """The step as a Python number. It is checked before the measurement, because a row that can't be written would waste time."""
    number = checked_number("step", step, "the training step, a finite number of at least 0", lambda value: value >= 0)
    return int(number) if number.is_integer() else number
