"""A callback of Lightning: the complexity of the network while it trains, in the loggers of the Trainer."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nncomplexity.dynamics import Tracker
from nncomplexity.integrations.loops import Log, LoopHooks

_KEY = "nncomplexity"
"""The key in a checkpoint. Callbacks with a `state_dict` would need keys that differ, and a Trainer may have several of these callbacks."""


class LightningCallback(Callback):
    """Measures a copy of the network, and logs its numbers at the step of the copy: `Trainer(callbacks=[LightningCallback(tracker)])`.

    With `Tracker(..., background=True)` training continues during a measurement. Only rank zero measures. The copy is in eval mode. The loss
    gets the module with the name `part`, by default the LightningModule. The numbers go to all loggers under the names of
    `nncomplexity.dynamics.numbers`, such as `complexity/bits_at_0.1`, as soon as they are known, and the last ones when training ends. After an
    error or Ctrl-C, networks that still wait are not measured.

    If training is resumed from a checkpoint, the run in the tracker's `out` continues, and no step of it is measured twice. The checkpoint's
    own network is measured then, if its step is due and has no row.

    Args:
        tracker: an `nncomplexity.Tracker`. If it has no `every`, the network is measured at the end of an epoch, otherwise at these optimizer
            steps.
        epochs: the number of epochs from one measurement to the next.
        part: the name of the module to measure within the LightningModule, such as "model".
        prefix: the beginning of the names of all numbers.

    Raises:
        InputError: an argument isn't usable.
    """

    def __init__(self, tracker: Tracker, *, epochs: int = 1, part: str = "", prefix: str = "complexity/") -> None:
        self._hooks = LoopHooks(tracker, epochs, part, prefix)
        self._ended = {"epoch": 0, "step": 0}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Write the last epoch that has ended, and its step, into a checkpoint."""
        checkpoint[_KEY] = self._ended

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Read them from a checkpoint."""
        self._ended = checkpoint.get(_KEY, self._ended)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the untrained network, or continue a run."""
        if trainer.is_global_zero:
            # A checkpoint may also have been written within an epoch.
            at_end = self._ended["step"] == trainer.global_step
            self._hooks.begin(trainer.global_step, pl_module, self._ended["epoch"] if at_end else None)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Measure at a step of the schedule, and log the finished measurements."""
        if trainer.is_global_zero:
            self._hooks.after_step(trainer.global_step, pl_module, _logged_by(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure at the end of an epoch, and log the finished measurements."""
        self._ended = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        if trainer.is_global_zero:
            self._hooks.after_epoch(trainer.current_epoch + 1, trainer.global_step, pl_module, _logged_by(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Wait for the last rows, and log them."""
        if trainer.is_global_zero:
            self._hooks.end(_logged_by(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Log the finished measurements, and cancel the others."""
        if trainer.is_global_zero:
            self._hooks.end(_logged_by(trainer), wait=False)


def _logged_by(trainer: Trainer) -> Log:
    """Logs by every logger of the trainer.

    `self.log` would use the trainer's present step. No "epoch" is logged with the numbers: its values would go back, and TensorBoard deletes
    the values of a name at later steps than a new value.
    """

    def log(values: dict[str, float], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
            logger.save()

    return log
