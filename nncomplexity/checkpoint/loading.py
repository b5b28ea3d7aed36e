"""`load_checkpoint`: one function for all formats of checkpoints."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.ctrl_c import ctrl_c_as_such
from nncomplexity.checkpoint.folder import model_file
from nncomplexity.checkpoint.kinds import EXPECTED
from nncomplexity.checkpoint.sharded import is_index, read_index, read_shards
from nncomplexity.checkpoint.single import read_single
from nncomplexity.checkpoint.stepkeys import number_in
from nncomplexity.checkpoint.steps import (
    TRAINER_STATE,
    USUAL,
    StepRule,
    find_step,
    is_standard,
)
from nncomplexity.checkpoint.trainer_log import Logged, log_of
from nncomplexity.errors import InputError
from nncomplexity.file import Reading, read_settled
from nncomplexity.words import is_file, path_of


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, and the files that it was read from."""

    path: Path
    """The file that was read. For a folder it is a file in it, and for shards their index."""
    sha256: str
    """The SHA-256 of the file's bytes, in hexadecimal. For shards, that of the lines `DIGEST  NAME`, sorted by name."""
    tensors: dict[str, Tensor] = field(repr=False)
    """Tensors by name, on the CPU. Tied names have the same tensor."""
    metadata: dict[str, str] = field(repr=False)
    """The metadata of a .safetensors file; the numbers and texts at the top of a pickled file; for shards, also the metadata of the index."""
    step: int | float | None = None
    """The training step, from the metadata or the name; None if neither has it."""
    step_from: str | None = None
    """The source of the step, such as "metadata iter_num"."""
    key: str | None = None
    """The dotted path of the tensors in the file; None if the whole file is a state dict."""
    files: tuple[Path, ...] = ()
    """All files with tensors."""
    log: tuple[Logged, ...] = ()
    """The training losses in the trainer_state.json of its folder."""
    notes: tuple[str, ...] = ()
    """A sentence on each guess, and on each thing that was left out."""


def load_checkpoint(path: str | os.PathLike[str], key: str | None = None, *, steps: StepRule = USUAL) -> Checkpoint:
    """Read a checkpoint: a .safetensors file, one of torch.save, an index of shards, an .npz file, or a model's folder.

    The content of a file shows its format. If the file has the dictionary of a training loop, the network's state dict is found in it. If the
    file is being written at the same time, it is read again, a few times.

    Args:
        path: the file or folder.
        key: where the state dict is in a pickled file: `model_state_dict`, or a dotted path such as `agent.policy`; `.` is the file's
            own dictionary. None takes the file's own dictionary, or guesses; `notes` then says so.
        steps: the rule that finds the training step, instead of the usual rule.

    Returns:
        The tensors by name, and their origin.

    Raises:
        InputError: there is no such file, it names functions that can run code, it isn't clear which tensors are the network, or the
            file changed each time that it was read.
        FormatError: the file is not a checkpoint, or it is cut or damaged.

    >>> import tempfile, torch
    >>> from nncomplexity.checkpoint import save_safetensors
    >>> shared = torch.eye(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(Path(folder, "tied.safetensors"), {"embed": shared, "unembed": shared})
    ...     tied = load_checkpoint(Path(folder, "tied.safetensors"))
    ...     torch.save({"epoch": 7, "model": {"embed": shared}}, Path(folder, "last.pt"))
    ...     nested = load_checkpoint(Path(folder, "last.pt"))
    >>> tied.tensors["embed"] is tied.tensors["unembed"], tied.metadata["unembed"]
    (True, 'embed')
    >>> nested.key, nested.step, nested.step_from, list(nested.tensors)
    ('model', 7, 'metadata epoch', ['embed'])
    """
    file = path_of(path)
    if key is not None and not isinstance(key, str):
        raise InputError(f"key: expected a dotted path, such as 'model_state_dict', got {key!r}; leave it out to have it guessed")
    with ctrl_c_as_such():
        return read_settled(lambda reading: _read(file, key, steps, reading), str(file), EXPECTED)


def _read(given: Path, key: str | None, steps: StepRule, reading: Reading) -> Checkpoint:
    file, notes = given, []
    try:
        if file.is_dir():
            file = model_file(file)
            notes = [f"read {file.name} of the folder"]
    except OSError as error:
        raise InputError(f"{file}: cannot read it ({error.strerror}); name a checkpoint") from error
    # Everything is read from these bytes, so that digest and tensors belong to the same state of the file.
    content = reading.content(file)
    if is_index(file, content):
        index = read_index(file, content)
        if key is not None:
            raise InputError(
                f"key: expected none, because {file} is an index of shards, in which nothing is nested, got {key!r}; leave it out"
            )
        contents, digest = read_shards(index, reading)
        files = index.files
    else:
        contents, digest = read_single(file, content, key), hashlib.sha256(content).hexdigest()
        files = (file,)
    # The tensors are copies, so the bytes are no longer needed. Callers will copy the tensors again, and memory may be short.
    del content
    state = _trainer_state(file, reading)
    trainer = {name: one for name, value in state.items() if (one := number_in(value)) is not None}
    # The usual rule may need folders above the current one. A pattern is matched with the path as the user typed it.
    step = find_step(file if steps.pattern else file.absolute(), _numbers(contents, steps), steps, trainer=trainer)
    return Checkpoint(
        path=file,
        sha256=digest,
        tensors=contents.tied(),
        metadata=contents.metadata,
        step=step.value if step else None,
        step_from=step.said_by if step else None,
        key=contents.key,
        files=files,
        log=log_of(state),
        notes=(*notes, *contents.notes),
    )


def _numbers(contents: Contents, steps: StepRule) -> dict[str, int | float]:
    """The numbers that may be the step: those outside the tensors, and the one that the rule names, which may be a tensor."""
    numbers = dict(contents.counters)
    if steps.key is not None and steps.key not in numbers:
        name = steps.key.removeprefix(f"{contents.key}.")
        value = number_in(contents.tensors.get(name))
        numbers |= {} if value is None else {steps.key: value}
    return numbers


def _trainer_state(file: Path, reading: Reading) -> dict[str, Any]:
    """The content of the trainer_state.json in the folder of a file with a standard name; empty if there is none."""
    state = file.parent / TRAINER_STATE
    if not is_standard(file) or not is_file(state):
        return {}
    try:
        document = json.loads(reading.content(state))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
