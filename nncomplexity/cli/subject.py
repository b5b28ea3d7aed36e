"""Finds, loads and checks the network, the functions and the base that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import nncomplexity
from nncomplexity.cli.groups import NetworkGroup
from nncomplexity.cli.outputs import check_writable
from nncomplexity.errors import InputError
from nncomplexity.version import __version__
from nncomplexity.words import printable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nncomplexity.checkpoint import Checkpoint, StepRule
    from nncomplexity.network import Base, Divergence, NamedDivergence, Task


@dataclass(frozen=True)
class CommandInputs:
    """What a command measures: the names on the command line, and the loaded objects."""

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
        """The entries of a report except its results (docs/cli.md). `options` are the entries for the search."""
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
            "torch": version("torch"),
        }


def load_inputs(
    checkpoint: str,
    network: NetworkGroup,
    loss_fn: str | None,
    divergence: NamedDivergence | None,
    risk_fn: str | None,
    outputs: Sequence[str | None],
) -> CommandInputs:
    """Load the network and everything that a measurement needs. Guesses are reported on standard error.

    The risk is measured once here, so that an error in it appears before the search and not after it.

    Args:
        checkpoint: the path of the network, as the user typed it.
        network: the options for reading it.
        loss_fn: the loss, as MODULE:FUNCTION; None if there is a divergence instead.
        divergence: the divergence for the search. If there is a loss, it only measures how faithful the files are.
        risk_fn: the risk, as MODULE:FUNCTION.
        outputs: the files that the command will write.

    Raises:
        InputError: a file or function isn't found, can't be used, or would be overwritten by an output.
    """
    task = task_of(loss_fn, network.model, risk_fn, network.device, outputs, divergence)
    original = load_network(checkpoint, network.key, task, outputs, network.steps())
    # Before the user's functions get the tensors: a NaN in a weight should not appear as an error of the loss.
    nncomplexity.network.check_numbers(original.tensors)
    called_on = task.network(original.tensors)
    names = (name for spec in nncomplexity.network.architecture_of(called_on).tensors for name in spec.names)
    base = network.base()
    relative = base.load(names, outputs) if base else None
    # The result is not used. An error in the user's risk must appear now, because the search may take hours.
    if task.risk_fn:
        task.risk(original.tensors)
    return CommandInputs(
        checkpoint=checkpoint,
        functions={
            "loss_fn": loss_fn,
            "model": network.model,
            "risk_fn": risk_fn,
            **(divergence.described() if divergence else {}),
        },
        device=network.device,
        original=original,
        task=task,
        network=called_on,
        base=relative,
        faithfulness=divergence.make() if divergence and loss_fn is not None else None,
    )


def task_of(
    loss_fn: str | None,
    model: str | None,
    risk_fn: str | None,
    device: str,
    outputs: Sequence[str | None],
    divergence: NamedDivergence | None = None,
) -> Task:
    """The user's functions. A divergence is used if no loss is named.

    Raises:
        InputError: one of them can't be found, or an output would overwrite its source.
    """
    if loss_fn is None and divergence is None:
        raise InputError("--loss-fn: expected MODULE:FUNCTION, got none; add it")
    task = nncomplexity.network.Task(
        device=nncomplexity.network.find_device(device),
        loss_fn=divergence.make()
        if loss_fn is None and divergence
        else nncomplexity.network.find_function(loss_fn or "", "--loss-fn"),
        build=nncomplexity.network.find_function(model, "--model") if model is not None else None,
        risk_fn=nncomplexity.network.find_function(risk_fn, "--risk-fn") if risk_fn is not None else None,
    )
    task = replace(
        task, folder=nncomplexity.network.folder_of(loss_fn, None if divergence is None else divergence.outputs, model, risk_fn)
    )
    check_writable(outputs, inputs=task.files)
    return task


def load_network(
    path: str, key: str | None, task: Task, outputs: Sequence[str | None], steps: StepRule | None = None
) -> Checkpoint:
    """The checkpoint of the network. Guesses are reported on standard error."""
    checkpoint = nncomplexity.checkpoint.load_checkpoint(path, key, steps=steps or nncomplexity.checkpoint.USUAL)
    check_writable(outputs, inputs=[str(file) for file in checkpoint.files])  # the files of a folder are not known earlier
    notes = list(checkpoint.notes)
    if note := task.naming(checkpoint.tensors).note("the module of --model"):
        notes.append(note)
    for note in notes:
        print(printable(f"nncomplexity: {path}: {note}"), file=sys.stderr)
    return checkpoint
