"""The command `init`: writes a commented task module, from questions, options or a checkpoint."""

from __future__ import annotations

import itertools
import keyword
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

import nncomplexity
from nncomplexity.cli.options import offering
from nncomplexity.cli.outputs import check_writable
from nncomplexity.cli.task_text import KINDS, WHAT, Arrays, Linear, TaskPlan, command_of, task_text
from nncomplexity.errors import InputError
from nncomplexity.words import is_file, printable, shape_in_words

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULTS = {"classifier": ((4,), 3), "language-model": ((16,), 64), "regression": ((4,), 1), "function": ((4,), 3)}
"""The default shape of an input and the default number of outputs, for each kind of task."""
_OUTPUTS = {
    "classifier": "classes",
    "language-model": "tokens in the vocabulary",
    "regression": "numbers to predict",
    "function": "outputs",
}
_INPUTS = ("x", "inputs", "images", "tokens", "data", "X")
_LABELS = ("y", "labels", "targets", "Y")


def init(
    file: Annotated[str, typer.Argument(metavar="FILE.py", help="The module to write, such as mytask.py.")],
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help=f"{', '.join(KINDS)}. Without it, you are asked.", autocompletion=offering(KINDS)),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="The network to measure. If it is a chain of linear layers, the module builds it."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="A class, or a function, that makes your network without training it."),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE.npz", help="The training data, as arrays of NumPy.")] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="AxBxC", help="The shape of one input, such as 3x32x32; the length of a sequence of tokens."),
    ] = None,
    outputs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Classes, tokens of the vocabulary, or numbers to predict.")
    ] = None,
) -> None:
    """Write a module with a loss and its data, with comments that say what to change, and print the command that measures with it.

    On a terminal, you are asked for each missing option. Elsewhere, it has a default. Without --data, the module uses random numbers as data,
    so it runs as it is.

    \b
      nncomplexity init mytask.py
      nncomplexity init mytask.py --kind classifier --checkpoint model.safetensors --data train.npz
      nncomplexity init mytask.py --kind language-model --model mypackage.models:Small --shape 128 --outputs 50257
    """
    path = Path(file)
    if path.suffix != ".py" or not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise InputError(f"{file}: expected the name of a module that can be imported, such as mytask.py")
    if path.exists():
        raise InputError(f"{file}: it exists already; choose another name, or delete it")
    check_writable([file], inputs=[checkpoint, data])
    plan = _plan(kind, checkpoint, model, data, shape, outputs)
    if plan.data is not None:
        # The module looks for its data beside itself, so that it can be called from any folder.
        plan = replace(plan, data=replace(plan.data, file=PurePath(os.path.relpath(plan.data.file, path.parent)).as_posix()))
    nncomplexity.file.save_bytes(path, task_text(plan).encode())
    print(printable(f"wrote {file}: {WHAT[plan.kind]}."))
    for note in _notes(plan):
        print(note)
    command = command_of(plan, path.stem, checkpoint)
    unknown = " and ".join(words for name, words in _UNKNOWN.items() if name in command.split())
    print(f"Then{unknown and f', where {unknown}'}:\n  {printable(command)}", flush=True)


_UNKNOWN = {"CHECKPOINT": "CHECKPOINT is the file of your network", "N": "N is the number of your training examples"}
"""Words in the command that the user must replace."""


def _plan(
    kind: str | None, checkpoint: str | None, model: str | None, data: str | None, shape: str | None, outputs: int | None
) -> TaskPlan:
    """The plan of the module. Each part is from the options, otherwise from the files, otherwise from questions, otherwise a default."""
    chosen = _asked("Kind of task (" + ", ".join(KINDS) + ")", "classifier") if kind is None else kind
    if chosen not in KINDS:
        raise InputError(f"--kind: expected one of {', '.join(KINDS)}, got {chosen!r}")
    if model is not None and (":" not in model or not all(part.isidentifier() for part in model.replace(":", ".").split("."))):
        raise InputError(f"--model: expected MODULE:FUNCTION, such as mypackage.models:Net, got {model!r}")
    chain = () if checkpoint is None or model is not None else _chain(checkpoint)
    arrays = None if data is None else _arrays(data, chosen)
    extents: tuple[int, ...]
    extents, count = _DEFAULTS[chosen]
    if chain:
        extents, count = (chain[0].inputs,), chain[-1].outputs
    if arrays is not None:
        # The last layer is certain. The data may lack an example of the last class.
        extents, count = arrays.shape, count if chain else arrays.outputs or count
    if shape is not None:
        extents = _shape(shape)
    elif not chain and arrays is None:
        what = "Length of a sequence" if chosen == "language-model" else "Shape of one input, such as 784 or 3x32x32"
        extents = _shape(_asked(what, "x".join(map(str, extents))))
    if outputs is None and not chain and (arrays is None or arrays.outputs is None):
        outputs = _number(_asked(f"Number of {_OUTPUTS[chosen]}", str(count)))
    return TaskPlan(chosen, extents, outputs or count, model, chain, arrays)


def _asked(question: str, default: str) -> str:
    """The answer to a question on a terminal, or the default if standard input is no terminal."""
    prompt: Callable[..., str] = typer.prompt
    return str(prompt(question, default=default)) if sys.stdin is not None and sys.stdin.isatty() else default


def _shape(text: str) -> tuple[int, ...]:
    parts = text.replace("×", "x").split("x")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--shape: expected whole numbers with x between them, such as 3x32x32, got {text!r}")
    return tuple(int(part) for part in parts)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--outputs: expected a whole number of at least 1, got {text!r}")
    return int(text)


def _chain(checkpoint: str) -> tuple[Linear, ...]:
    """The linear layers of a checkpoint. Raises InputError if it is not a chain of linear layers."""
    tensors = nncomplexity.checkpoint.load_checkpoint(checkpoint).tensors
    found = chain_of(tensors)
    if not found:
        first = ", ".join(f"{name} {shape_in_words(tensor.shape)}" for name, tensor in list(tensors.items())[:3])
        raise InputError(
            f"--model: {checkpoint} is no chain of linear layers (it begins with {first}), so the code of its network can't be written; "
            "name a function that makes the network, as --model MODULE:FUNCTION"
        )
    return found


def chain_of(tensors: Mapping[str, Tensor]) -> tuple[Linear, ...]:
    """The layers of a chain of linear layers, in which each layer's inputs are the outputs of the one before; () for other networks."""
    names = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    layers: dict[str, Linear] = {}
    for name in names:
        weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        # The chain is written as an nn.Sequential, and names of its modules can't contain a dot.
        if weight.dim() != 2 or "." in name or (bias is not None and bias.shape != weight.shape[:1]):
            return ()
        layers[name] = Linear(name, weight.shape[1], weight.shape[0], bias is not None)
    if not layers or not set(tensors) <= {f"{name}.{part}" for name in names for part in ("weight", "bias")}:
        return ()
    # Files may have names in alphabetical order, in which 10 comes before 2.
    for order in (names, sorted(names, key=lambda name: nncomplexity.checkpoint.natural_key(PurePath(name)))):
        chain = [layers[name] for name in order]
        if all(one.outputs == following.inputs for one, following in itertools.pairwise(chain)):
            return tuple(chain)
    return ()


def _arrays(data: str, kind: str) -> Arrays:
    """The arrays of an .npz file for a task of this kind. Raises InputError if they are missing."""
    if not is_file(Path(data)):
        raise InputError(f"--data: expected an .npz file, got {data!r}, which is no file; make one with numpy.savez")
    tensors = nncomplexity.checkpoint.load_checkpoint(data).tensors
    inputs = next((name for name in _INPUTS if name in tensors), None)
    labels = next((name for name in _LABELS if name in tensors), None)
    labelled = kind in ("classifier", "regression")
    if inputs is None or (labels is None and labelled) or tensors[inputs].dim() < 2:
        expected = f"an array of the inputs, (n, ...), called {' or '.join(_INPUTS)}"
        expected += f", and one of the labels called {' or '.join(_LABELS)}" if labelled else ""
        raise InputError(f"--data: expected {expected}, got {', '.join(tensors)}; save them under such names")
    shape = tuple(tensors[inputs].shape[1:])
    outputs: int | None = None
    if kind == "language-model":
        # The inputs are all tokens of a sequence except the last, and the targets are all tokens except the first.
        shape, outputs = (shape[0] - 1,), int(tensors[inputs].max()) + 1
    elif labels is not None and labelled:
        values = tensors[labels]
        outputs = int(values.max()) + 1 if kind == "classifier" else values[0].numel()
    return Arrays(data, inputs, labels or "", shape, outputs, len(tensors[inputs]))


def _notes(plan: TaskPlan) -> list[str]:
    notes = [] if plan.data else ["Its data are random numbers: put your data into data()."]
    notes += ["Its network is an example: put your network into build()."] if not plan.model and not plan.chain else []
    return notes + (["ReLU between its layers is a guess."] if len(plan.chain) > 1 else [])
