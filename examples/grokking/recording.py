"""A training run with its record: checkpoints, metrics and complexity at the epochs ⌊1.3^k⌋ and at the last epoch."""

import math
import time
from typing import Any

import torch

from examples.grokking.complexity import measure
from examples.grokking.folder import RunFolder, append_line, keep_lines
from examples.grokking.task import task_for
from examples.grokking.training import Trainer

SECONDS_BETWEEN_SAVES = 30


def recorded_epochs(epochs: int) -> list[int]:
    """⌊1.3^k⌋ for k = 0, 1, … up to the last epoch, and the last epoch.

    >>> recorded_epochs(20)
    [1, 2, 3, 4, 6, 8, 10, 13, 17, 20]
    """
    powers = {int(1.3**k) for k in range(math.ceil(math.log(epochs, 1.3)) + 1)}
    return sorted({epoch for epoch in powers if epoch <= epochs} | {epochs})


class Watcher:
    """The callbacks of a run. These do nothing; a display overrides them."""

    def resumed(self, epoch: int) -> None:
        """Training continues after `epoch`; 0 for a new run."""

    def trained(self, epoch: int) -> None:
        """Epoch `epoch` is done."""

    def measuring(self, done: float, total: float, what: str) -> None:
        """The search has spent `done` of `total` evaluations."""

    def recorded(self, line: dict[str, Any]) -> None:
        """A line was added to metrics.jsonl."""


def train_run(folder: RunFolder, device: torch.device | str = "cpu", watcher: Watcher | None = None) -> None:
    """Train the folder's configuration from the state that its files hold, and record the training there.

    A run that was killed continues from the last state that it saved. It ends with the same weights and the same lines (except for
    `seconds`) as a run without interruption.

    Raises:
        InputError: if training diverges, or a file of the folder is damaged.
    """
    watcher = watcher or Watcher()
    config, settings = folder.config, folder.settings
    trainer = Trainer(config, device)
    seconds = 0.0
    state = folder.load_state()
    if state is not None:
        trainer.restore(state)
        seconds = state["seconds"]
    recorded = {line["epoch"] for line in keep_lines(folder.metrics, lambda line: line["epoch"] <= trainer.epoch)}
    keep_lines(folder.measurements(settings.kind), lambda line: line["epoch"] in recorded)
    due = set(recorded_epochs(config.epochs)) - recorded
    watcher.resumed(trainer.epoch)
    saved = time.monotonic()
    while True:
        if trainer.epoch in due or time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
            folder.save_state(trainer.state() | {"seconds": seconds})
            saved = time.monotonic()
        if trainer.epoch in due:
            watcher.recorded(_record(folder, trainer, seconds, watcher))
        if trainer.epoch == config.epochs:
            return
        start = time.perf_counter()
        trainer.train_epoch()
        seconds += time.perf_counter() - start
        watcher.trained(trainer.epoch)


def _record(folder: RunFolder, trainer: Trainer, seconds: float, watcher: Watcher) -> dict[str, Any]:
    weights = {name: tensor.detach() for name, tensor in trainer.model.state_dict().items()}
    metrics = trainer.evaluate()
    folder.save_checkpoint(trainer.epoch, weights)
    measurements = measure(weights, task_for(trainer.config), folder.settings, watcher.measuring)
    for measurement in measurements:
        append_line(folder.measurements(folder.settings.kind), {"epoch": trainer.epoch, **measurement})
    line = {"epoch": trainer.epoch, "step": trainer.updates, **metrics, "seconds": round(seconds, 3)}
    line |= {f"bits@{measurement['eps']}": measurement["bits"] for measurement in measurements}
    line |= {f"paper_bytes@{m['eps']}": m["paper_bytes"] for m in measurements if m["paper_bytes"] is not None}
    append_line(folder.metrics, line)
    return line
