"""Which file of a model's folder is the network."""

import re
from pathlib import Path

from nncomplexity.errors import InputError
from nncomplexity.listing import listed

STANDARD = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
"""What Hugging Face's libraries write, the first to be taken first; `adapter_model` is what peft trained."""

SUFFIXES = (".safetensors", ".safetensors.index.json", ".bin.index.json", ".pt", ".pth", ".bin", ".ckpt")
NO_NETWORK = re.compile(r"(optimizer|scheduler|scaler|rng_state.*|training_args)\.(pt|pth|bin)|.*-[0-9]+-of-[0-9]+\.\w+")
"""What trainers write beside the network, and single shards."""
_LISTED = 6


def model_file(folder: Path) -> Path:
    """The checkpoint in a folder: the first of the standard names that is there, else the only one.

    Raises InputError where there is none, or several and none of a standard name; it lists what is there.

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
    found = [name for name in names if name.endswith(SUFFIXES) and not NO_NETWORK.fullmatch(name)]
    if len(found) == 1:
        return folder / found[0]
    if found:
        raise InputError(
            f"{folder}: it is a folder with {len(found)} checkpoints and no {STANDARD[0]}: {listed(found, most=_LISTED)}; name one"
        )
    raise InputError(
        f"{folder}: it is a folder without a checkpoint: {listed(names, most=_LISTED) or 'it is empty'}; name a checkpoint"
    )
