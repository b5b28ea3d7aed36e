"""What the callbacks do in every training loop. An error in a measurement never ends a training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from nncomplexity.dynamics import Tracker, numbers, warn
from nncomplexity.errors import InputError
from nncomplexity.network import evaluating
from nncomplexity.words import checked_count, error_line

Log = Callable[[dict[str, float], int], None]
"""log(numbers by name, the step of their network)."""


class LoopHooks:
    """A tracker, called at the moments that every training loop has. To be used by one process only, that of rank zero.

    Args:
        tracker: measures. If it has no `every`, the network is measured at the end of an epoch, otherwise at these steps.
        epochs: the number of epochs from one measurement to the next.
        part: the name of the module to measure within the module that trains, such as "model"; "" is that module itself.
        prefix: the beginning of the names of all numbers.

    Raises:
        InputError: an argument isn't usable.
    """

    def __init__(self, tracker: Tracker, epochs: int, part: str, prefix: str) -> None:
        if not isinstance(tracker, Tracker):
            raise InputError(f"tracker: expected an nncomplexity.Tracker, got {type(tracker).__name__}")
        if not isinstance(part, str):
            raise InputError(f"part: expected the name of a module, such as 'model', got {part!r}")
        numbers(None, prefix)
        self.tracker, self._part, self._prefix = tracker, part, prefix
        self._epochs = checked_count("epochs", epochs, 1)
        self._warned = False

    def begin(self, step: int, model: nn.Module, epoch: int | None = None) -> None:
        """Training begins, or is resumed from a checkpoint if the step is above 0.

        If the network of this checkpoint has no row, it is measured now. The training may have been killed before its measurement ended.

        Args:
            step: the present step.
            model: the module that trains.
            epoch: the number of epochs that are done, if the checkpoint was written at the end of an epoch.
        """
        with self._unharmed():
            known = step == 0 or self.tracker.resume()
            if known and (self.tracker.every is not None or self._of_epoch(epoch)):
                self._measure(step, model)

    def after_step(self, step: int, model: nn.Module, log: Log) -> None:
        """An optimizer step, or a batch without one, is done."""
        with self._unharmed():
            if self.tracker.every is not None:
                self._measure(step, model)
            self._send(log)

    def after_epoch(self, epoch: int, step: int, model: nn.Module, log: Log) -> None:
        """This number of epochs is done."""
        with self._unharmed():
            if self.tracker.every is None and self._of_epoch(epoch):
                self._measure(step, model)
            self._send(log)

    def end(self, log: Log, *, wait: bool = True) -> None:
        """Training has ended: log the finished measurements, after waiting for the others, or without waiting."""
        with self._unharmed():
            self.tracker.close(wait)
            self._send(log)

    def _of_epoch(self, epoch: int | None) -> bool:
        """Whether the network after this number of epochs is to be measured."""
        return epoch is not None and epoch > 0 and epoch % self._epochs == 0

    def _measure(self, step: int, model: nn.Module) -> None:
        network = model.get_submodule(self._part)
        with evaluating(network.modules()):  # and the mode of each part is restored afterwards
            self.tracker(step, network)

    def _send(self, log: Log) -> None:
        for row in self.tracker.ready():
            # The step of the snapshot, because the loop is at a later step by now.
            with self._unharmed():  # a row that can't be logged doesn't prevent the logging of others
                if values := numbers(row, self._prefix):
                    log(values, row["step"])

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._warned:
                self._warned = True
                warn(f"complexity could not be measured or logged: {error_line(error)}; training goes on, and this is said once")
