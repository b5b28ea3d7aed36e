"""Finds the file of a model's folder that is the network."""

import re
from pathlib import Path

from nncomplexity.checkpoint.stepnames import Clear, counts_in
from nncomplexity.checkpoint.steps import stem_of
from nncomplexity.errors import InputError
from nncomplexity.words import listed

STANDARD = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
"""The names that Hugging Face's libraries write, in the order of preference. `adapter_model` is an adapter of peft."""

SUFFIXES = (".safetensors", ".safetensors.index.json", ".bin.index.json", ".pt", ".pth", ".pth.tar", ".bin", ".ckpt")
_TRAINERS = re.compile(
    r"(^|[-_.])(optimizers?|optims?|(lr_)?schedulers?|scaler|rng_states?|random_states?|training_args)([-_.0-9]|$)|^opt([-_.]?[0-9]+)?$",
    re.IGNORECASE,
)
_NETWORKS = re.compile(r"(^|[-_.])(model|net|network)([-_.0-9]|$)", re.IGNORECASE)
SHARD = re.compile(r"(.+)-[0-9]{5}-of-[0-9]{5}(\.\w+)")
"""The name of a shard, one of several files with an index."""
_LISTED = 6


def model_file(folder: Path) -> Path:
    """The checkpoint in a folder: the first of the standard names that exists, or otherwise the only checkpoint.

    Raises:
        InputError: there is no checkpoint, or there are several and none has a standard name. The message lists them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for file in ("config.json", "optimizer.pt", "pytorch_model.bin", "model.safetensors"):
    ...         _ = Path(name, file).write_bytes(b"")
    ...     model_file(Path(name)).name
    'model.safetensors'
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot read the folder ({error.strerror}); name a checkpoint") from error
    for name in STANDARD:
        if name in names:
            return folder / name
    found = [name for name in names if name.endswith(SUFFIXES) and not is_of_trainer(name) and not is_shard(name)]
    if len(found) == 1:
        return folder / found[0]
    if found:
        raise InputError(
            f"{folder}: it is a folder with {len(found)} checkpoints and no {STANDARD[0]}: {listed(found, most=_LISTED)}; name one"
        )
    if any(name.endswith(".distcp") for name in names):
        raise InputError(
            f"{folder}: a checkpoint of torch.distributed.checkpoint, in parts; put them together first, by "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE), and name that file"
        )
    raise InputError(
        f"{folder}: it is a folder without a checkpoint: {listed(names, most=_LISTED) or 'it is empty'}; name a checkpoint"
    )


def is_of_trainer(name: str) -> bool:
    """Whether a file has the name of a trainer's other files: the state of an optimizer, a scheduler or random generators.

    >>> [is_of_trainer(name) for name in ("optimizer.pt", "opt000100.pt", "rng_state_0.pth", "model_optim_rng.pt", "opt-125m.pt")]
    [True, True, True, False, False]
    """
    stem = stem_of(name)
    return bool(_TRAINERS.search(stem)) and not _NETWORKS.search(stem)


def is_shard(name: str) -> bool:
    """Whether a file has the name of a shard. `epoch-1-of-3.pt` and `epoch-00001-of-00003.pt` are not shards.

    >>> [is_shard(name) for name in ("model-00001-of-00002.safetensors", "epoch-1-of-3.pt", "epoch-00001-of-00003.pt")]
    [True, False, False]
    """
    return SHARD.fullmatch(name) is not None and not any(count.clear >= Clear.EPOCH for count in counts_in(stem_of(name)))
