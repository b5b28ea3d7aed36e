"""What a command line names to be measured: the network, the functions to measure it by, and its base; found, loaded and checked."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.checkpoint import USUAL, Checkpoint, StepRule, load_checkpoint
from nncomplexity.cli.basefile import BaseFile
from nncomplexity.cli.outputs import check_writable
from nncomplexity.errors import InputError
from nncomplexity.network import (
    Base,
    Divergence,
    NamedDivergence,
    Task,
    architecture_of,
    check_numbers,
    find_device,
    find_function,
    folder_of,
)
from nncomplexity.version import __version__
from nncomplexity.words import printable


@dataclass(frozen=True)
class Subject:
    """What is measured, as typed and as loaded."""

    checkpoint: str
    functions: dict[str, str | None]
    """The options that name functions."""
    device: str
    original: Checkpoint
    task: Task
    network: nn.Module | dict[str, Tensor]
    """What the functions are called on."""
    base: Base | None
    faithfulness: Divergence | None = None
    """By which to say how faithful a file is that is searched under a loss."""

    def about(self, **options: Any) -> dict[str, Any]:
        """What a report says of a command besides its results (docs/results.md); `options` are those of the search."""
        original = self.original
        return {
            "checkpoint": self.checkpoint,
            "sha256": original.sha256,
            "key": original.key,
            "step": original.step,
            "step_from": original.step_from,
            "notes": list(original.notes),
            **self.functions,
            **options,
            "device": self.device,
            "version": __version__,
            "torch": torch.__version__,
        }


def load_subject(
    checkpoint: str,
    key: str | None,
    *,
    loss_fn: str | None,
    model: str | None,
    risk_fn: str | None,
    device: str,
    base: BaseFile | None,
    outputs: Sequence[str | None],
    steps: StepRule = USUAL,
    divergence: NamedDivergence | None = None,
) -> Subject:
    """What is to be measured; what was guessed of it is said on standard error.

    The risk is measured once: what is wrong with it should show before the search, not after.

    Raises InputError where something isn't found, can't be used, or would be overwritten by an output.
    """
    task = task_of(loss_fn, model, risk_fn, device, outputs, divergence)
    original = load_network(checkpoint, key, task, outputs, steps)
    check_numbers(original.tensors)
    network = task.network(original.tensors)
    names = (name for spec in architecture_of(network).tensors for name in spec.names)
    relative = base.load(names, outputs) if base else None
    if task.risk_fn:
        task.risk(original.tensors)
    functions = {"loss_fn": loss_fn, "model": model, "risk_fn": risk_fn, **(divergence.described() if divergence else {})}
    examined = divergence.make() if divergence and loss_fn is not None else None
    return Subject(checkpoint, functions, device, original, task, network, relative, examined)


def task_of(
    loss_fn: str | None,
    model: str | None,
    risk_fn: str | None,
    device: str,
    outputs: Sequence[str | None],
    divergence: NamedDivergence | None = None,
) -> Task:
    """The user's functions; a divergence stands in the place of a loss that isn't named.

    Raises InputError where one of them can't be found, or an output would overwrite its source.
    """
    if loss_fn is None and divergence is None:
        raise InputError("--loss-fn: expected MODULE:FUNCTION, got none; add it")
    task = Task(
        device=find_device(device),
        loss_fn=divergence.make() if loss_fn is None and divergence else find_function(loss_fn or "", "--loss-fn"),
        build=find_function(model, "--model") if model is not None else None,
        risk_fn=find_function(risk_fn, "--risk-fn") if risk_fn is not None else None,
    )
    task = replace(task, folder=folder_of(loss_fn, None if divergence is None else divergence.outputs, model, risk_fn))
    check_writable(outputs, inputs=task.files)
    return task


def load_network(path: str, key: str | None, task: Task, outputs: Sequence[str | None], steps: StepRule = USUAL) -> Checkpoint:
    """The network; what was guessed of it is said on standard error."""
    checkpoint = load_checkpoint(path, key, steps=steps)
    check_writable(outputs, inputs=[str(file) for file in checkpoint.files])  # a folder's files are known only now
    notes = list(checkpoint.notes)
    if note := task.naming(checkpoint.tensors).note("the module of --model"):
        notes.append(note)
    for note in notes:
        print(printable(f"nncomplexity: {path}: {note}"), file=sys.stderr)
    return checkpoint
