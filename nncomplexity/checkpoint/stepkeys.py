"""Finds the training step among the numbers in a checkpoint, by their names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

STEPS = (
    *(
        "global_step",
        "global_steps",
        "global_iter",
        "global_iteration",
        "step",
        "steps",
        "iteration",
        "iterations",
        "iter",
        "iters",
    ),
    *("iter_num", "n_iter", "itr", "num_updates", "n_updates", "update", "updates", "current_step", "cur_step", "current_iter"),
    *("cur_iter", "train_step", "training_step", "trained_steps", "trained_iterations", "steps_run", "optimizer_step", "opt_step"),
)
"""Names of counts of updates, in the order of preference."""
EPOCHS = ("epoch", "epochs", "current_epoch", "cur_epoch", "epoch_num", "epochs_run", "epochs_trained")
"""Names of counts of epochs. They are used if there is no count of updates."""
AMONG_WEIGHTS = frozenset(("global_step", "step", "iteration", "iter_num"))
"""Names of counts that a state dict may contain as a tensor with one integer."""
_PLACES = (
    *("", "meta.", "metadata.", "info.", "state.", "train_state.", "training_state.", "trainer_state.", "trainer.", "progress."),
    *("counters.", "extra_state.", "extra.", "extra_state.train_iterator."),
)
"""The dictionaries of a checkpoint that are searched for counts, the top level first. Numbers among options are not counts but settings."""
_LARGEST = 10**18
"""Larger numbers are no counts of steps."""
_HISTORY = re.compile(r"optimizer_history\.(\d+)\.num_updates")
"""The count of fairseq, which has an entry for each optimizer."""


def counted(numbers: Mapping[str, int | float], names: tuple[str, ...]) -> tuple[str, int | float] | None:
    """The first count with one of these names, and its dotted path; None if there is no such number of at least 0.

    >>> counted({"meta.epoch": 3, "meta.iter": 1200, "args.step": 5}, STEPS)
    ('meta.iter', 1200)
    """
    found = {path.lower(): path for path in numbers}
    paths = (f"{place}{name}" for place in _PLACES for name in names)
    here = next((found[path] for path in paths if path in found and numbers[found[path]] >= 0), None)
    if here is None and names is STEPS:
        history = [(int(match[1]), path) for path in numbers if (match := _HISTORY.fullmatch(path))]
        here = max(history)[1] if history else None
    return None if here is None else (here, numbers[here])


def number_in(value: Any) -> int | float | None:
    """The value as a number below 10¹⁸, from a Python number, a text or a tensor with one element; otherwise None.

    >>> [number_in(value) for value in (3, "1200", "1e999", True, torch.tensor(700), torch.ones(3), "many")]
    [3, 1200, None, None, 700, None, None]
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_nested or value.is_meta or value.numel() != 1:
            return None
        value = value.item()
    if isinstance(value, str):
        try:
            value = int(value) if re.fullmatch("[0-9]{1,18}", value) else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return int(value) if value == int(value) else value
