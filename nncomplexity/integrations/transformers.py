"""A callback of the Trainer of transformers: the complexity of the network while it trains, in the trainer's own log."""

import copy
import warnings
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nncomplexity.dynamics import Tracker
from nncomplexity.integrations.loops import LoopHooks


class TransformersCallback(TrainerCallback):
    """Measures a copy of the network, and logs its numbers at the step of the copy: `TransformersCallback(tracker).attach(trainer)`.

    With `Tracker(..., background=True)` training continues during a measurement. Only rank zero measures. The copy is in eval mode. The
    numbers go through `trainer.log`, and so to `trainer.state.log_history` and to all of `report_to`, under the names of
    `nncomplexity.dynamics.numbers`, such as `complexity/bits_at_0.1`. They go there as soon as they are known, and the last ones when
    training ends.

    If training is resumed from a checkpoint, the run in the tracker's `out` continues, and no step of it is measured twice. The checkpoint's
    own network is measured then, if its step is due and has no row.

    Args:
        tracker: an `nncomplexity.Tracker`. If it has no `every`, the network is measured at the end of an epoch, otherwise at these optimizer
            steps.
        epochs: the number of epochs from one measurement to the next.
        part: the name of the module to measure within the model, such as "classifier".
        prefix: the beginning of the names of all numbers.

    Raises:
        InputError: an argument isn't usable.
    """

    def __init__(self, tracker: Tracker, *, epochs: int = 1, part: str = "", prefix: str = "complexity/") -> None:
        self._hooks = LoopHooks(tracker, epochs, part, prefix)
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> "TransformersCallback":
        """Add this callback to the trainer. After `Trainer(callbacks=[...])` alone, it couldn't log, because it wouldn't know the trainer."""
        self._trainer = trainer
        # Before the callbacks of trackers, because these end their runs at the end of training, and the last numbers are logged after that.
        # And only once, even if it was in `callbacks=` too: otherwise each step would be measured twice.
        callbacks = trainer.callback_handler.callbacks
        callbacks[:] = [self, *(one for one in callbacks if one is not self)]
        return self

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:  # noqa: ARG002
        """Measure the untrained network, or continue a run."""
        if self._trainer is None:
            warnings.warn("TransformersCallback: nothing is logged; call attach(trainer) instead of callbacks=[...]", stacklevel=2)
        if state.is_world_process_zero:
            epoch = float(state.epoch or 0)
            self._hooks.begin(state.global_step, given["model"], int(epoch) if epoch.is_integer() else None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:  # noqa: ARG002
        """Measure at a step of the schedule, and log the finished measurements."""
        if state.is_world_process_zero:
            self._hooks.after_step(state.global_step, given["model"], self._log)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:  # noqa: ARG002
        """Measure at the end of an epoch, and log the finished measurements."""
        if state.is_world_process_zero:
            self._hooks.after_epoch(round(state.epoch or 0), state.global_step, given["model"], self._log)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Wait for the last rows, and log them."""
        if state.is_world_process_zero:
            self._hooks.end(self._log)

    def _log(self, values: dict[str, float], step: int) -> None:
        """Log by the trainer. Its step is set to that of the network meanwhile.

        The epoch, which `Trainer.log` would add, is left out: its values would go back, and TensorBoard deletes the values of a name at later
        steps than a new value.
        """
        if (trainer := self._trainer) is None:
            return
        now, should_log = trainer.state, trainer.control.should_log
        then: Any = copy.copy(now)  # with the same list of logged values
        then.global_step, then.epoch = step, None
        trainer.state = then
        try:
            trainer.log(values)
        finally:
            trainer.state, trainer.control.should_log = now, should_log
