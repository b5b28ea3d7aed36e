"""The network, the functions and the base that a command line names: found, loaded and checked."""

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


@dataclass(frozen=True)
class Subject:
    """The network to measure, as typed and as loaded."""

    checkpoint: str
    functions: dict[str, str | None]
    """The options that name functions."""
    device: str
    original: Checkpoint
    task: Task
    network: nn.Module | dict[str, Tensor]
    """The object that the functions are called with."""
    base: Base | None
    faithfulness: Divergence | None = None
    """Measures how faithful a file is, if the search uses a loss."""

    def about(self, **options: Any) -> dict[str, Any]:
        """The entries of a report besides its results (docs/cli.md); `options` are those of the search."""
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
    """The network to measure. Standard error says what was guessed.

    The risk is measured once here, so that an error in it appears before the search and not after it.

    Raises InputError if something isn't found, can't be used, or would be overwritten by an output.
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
    """The user's functions. A divergence is used if no loss is named.

    Raises InputError if a function can't be found, or if an output would overwrite its source.
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
    """The network. Standard error says what was guessed."""
    checkpoint = load_checkpoint(path, key, steps=steps)
    check_writable(outputs, inputs=[str(file) for file in checkpoint.files])  # the files of a folder are not known earlier
    notes = list(checkpoint.notes)
    if note := task.naming(checkpoint.tensors).note("the module of --model"):
        notes.append(note)
    for note in notes:
        print(f"nncomplexity: {path}: {note}", file=sys.stderr)
    return checkpoint
