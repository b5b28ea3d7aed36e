"""Reads checkpoints of all usual kinds: one file, several shards, a model's folder or a training loop's dictionary.

A checkpoint is read without running any of its code.

- `steps`: the training step of a checkpoint (`find_step`), and the order of numbered names
- `contents`: the result of reading a file
- `archive`: checks of zip archives before they are read
- `ctrl_c`: Ctrl-C while a checkpoint is read
- `pickled`: files of `torch.save`, read without running code from them
- `selection`: which state dict of a training loop's dictionary is the network
- `training_state`: other content of a training loop's checkpoint, read without calling its types
- `safetensors`: reading and writing `.safetensors` files, with ties
- `single`: one file of any format, recognised by its first bytes
- `sharded`: an index and its shards
- `folder`: which file of a model's folder is the network
- `loading`: `load_checkpoint`, one function for all formats
- `trainer_log`: the losses in the log of a training, and the prequential code length
- `stepkeys`: which number in a checkpoint is the training step, by its name
- `stepnames`: which number in a file's name is the training step
- `counters`: the numbers in a checkpoint, except the weights
- `runs`: which checkpoints of a folder belong to one run
- `kinds`: what a file is if it is not a checkpoint, recognised by its first bytes
- `placeholders`: classes that do nothing, in place of the classes that a pickle names
- `modules`: whole modules, as `torch.save(model, FILE)` writes them
- `legacy`: files of `torch.save` from before PyTorch 1.6
- `arrays`: NumPy arrays instead of tensors
"""

from typing import TYPE_CHECKING

from nncomplexity.words import load_on_demand

if TYPE_CHECKING:
    from nncomplexity.checkpoint.folder import SHARD, STANDARD, SUFFIXES, is_of_trainer, is_shard
    from nncomplexity.checkpoint.loading import Checkpoint, load_checkpoint
    from nncomplexity.checkpoint.pickled import PICKLE, ZIP
    from nncomplexity.checkpoint.runs import PathParts, labels, path_parts, place_of_step
    from nncomplexity.checkpoint.safetensors import is_safetensors, save_safetensors
    from nncomplexity.checkpoint.selection import OptimizerError
    from nncomplexity.checkpoint.single import head_of
    from nncomplexity.checkpoint.stepnames import Clear, Count, varying
    from nncomplexity.checkpoint.steps import USUAL, Step, StepRule, find_step, is_standard, natural_key, place_of, stem_of, step_of
    from nncomplexity.checkpoint.trainer_log import Logged, prequential_bits
else:
    load_on_demand(
        __name__,
        {
            "folder": (
                "SHARD",
                "STANDARD",
                "SUFFIXES",
                "is_of_trainer",
                "is_shard",
            ),
            "loading": (
                "Checkpoint",
                "load_checkpoint",
            ),
            "pickled": (
                "PICKLE",
                "ZIP",
            ),
            "runs": (
                "PathParts",
                "labels",
                "path_parts",
                "place_of_step",
            ),
            "safetensors": (
                "is_safetensors",
                "save_safetensors",
            ),
            "selection": ("OptimizerError",),
            "single": ("head_of",),
            "stepnames": (
                "Clear",
                "Count",
                "varying",
            ),
            "steps": (
                "USUAL",
                "Step",
                "StepRule",
                "find_step",
                "is_standard",
                "natural_key",
                "place_of",
                "stem_of",
                "step_of",
            ),
            "trainer_log": ("Logged", "prequential_bits"),
        },
    )

__all__ = [
    "PICKLE",
    "SHARD",
    "STANDARD",
    "SUFFIXES",
    "USUAL",
    "ZIP",
    "Checkpoint",
    "Clear",
    "Count",
    "Logged",
    "OptimizerError",
    "PathParts",
    "Step",
    "StepRule",
    "find_step",
    "head_of",
    "is_of_trainer",
    "is_safetensors",
    "is_shard",
    "is_standard",
    "labels",
    "load_checkpoint",
    "natural_key",
    "path_parts",
    "place_of",
    "place_of_step",
    "prequential_bits",
    "save_safetensors",
    "stem_of",
    "step_of",
    "varying",
]
