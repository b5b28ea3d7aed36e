"""Networks to compare with: untrained, constant, and trained on shuffled labels.

Their sizes make a scale for complexity: the size of a network that has learned nothing, of one that predicts the same for every input, and of
one that has memorised labels without a rule.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.errors import InputError
from nncomplexity.network import Function, check_numbers, command_line_of, skeleton_of, tensors_of


def untrained(build: Function, seed: int) -> dict[str, Tensor]:
    """The weights of a module as `build` initialises it after `torch.manual_seed(seed)`.

    Raises:
        InputError: `build` returns no module.

    >>> untrained(lambda: nn.Linear(2, 1), 0)["weight"].shape
    torch.Size([1, 2])
    """
    # The caller restores the generators afterwards.
    torch.manual_seed(seed)
    with command_line_of(build):
        module = build()
    if not isinstance(module, nn.Module):
        raise InputError(f"model: expected a function that returns an nn.Module, got {type(module).__name__}")
    return _detached(tensors_of(module))


def first_usable(paths: Iterable[str], key: str | None) -> str | None:
    """The first checkpoint that can be read and has no NaN; None if there is none. The constant network gets its architecture."""
    for path in paths:
        try:
            check_numbers(load_checkpoint(path, key).tensors)
        except Exception:  # the row of that checkpoint has the error
            continue
        return path
    return None


def shuffled(trainer: Function, seed: int) -> tuple[dict[str, Tensor], Function | None]:
    """The result of `trainer(seed)`: weights or a module, alone or in a pair with its loss.

    Raises:
        InputError: it returns something else.
    """
    torch.manual_seed(seed)
    with torch.enable_grad():
        found = trainer(seed)
    network, loss_fn = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if isinstance(network, nn.Module):
        network = tensors_of(network)
    if not isinstance(network, Mapping) or not (loss_fn is None or callable(loss_fn)):
        raise InputError(
            f"shuffled: expected trainer(seed) to return a state dict, or a pair of one and its loss, got {type(found).__name__}"
        )
    return _detached(network), loss_fn


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    skeleton = skeleton_of(tensors)
    return skeleton.expand({spec.name: tensors[spec.name].detach().cpu().clone() for spec in skeleton.tensors})
