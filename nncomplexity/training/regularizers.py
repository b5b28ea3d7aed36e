"""Regularizers for a training loop: a penalty on the spectral entropy, and noise on the weights (DeMoss et al. 2025, Eqs. 10, 16)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.linalg import matrix_view
from nncomplexity.network import check_in_memory, storage_place
from nncomplexity.training.spectral_gradient import SpectralEntropies
from nncomplexity.words import checked_number, shown


def spectral_entropy_penalty(
    matrices: nn.Module | Mapping[str, Tensor] | Iterable[Tensor],
    beta: float = 0.1,
    reduction: Literal["mean", "sum"] = "mean",
    select: Callable[[str], bool] | None = None,
) -> Tensor:
    """L_reg = β·H_svd (Eq. 16), a term to add to a loss. H_svd is the mean over the matrices, in nats (Eqs. 12 and 15).

    A zero matrix has entropy 0 and gradient 0. For singular values below about 10⁻⁷ of the largest, the gradient goes to 0
    (`nncomplexity.training.spectral_gradient`). A gradient beyond the range of float16 is scaled down into this range. A NaN or an
    infinity in a matrix makes its entropy and its gradient NaN. The gradient can't be differentiated again, and
    `create_graph=True` raises an InputError.

    Args:
        matrices: tensors of two dimensions or more, each of which `lowrank.matrix_view` folds into a matrix. Or a module, or a mapping
            of names to tensors. Of these, the tensors are used whose matrices have both sides above 1, because a vector or a single
            row has no entropy. A module's tied parameter counts once.
        beta: the weight β in the loss.
        reduction: "mean", as in the paper's code, so that β has the same meaning for every depth; or "sum".
        select: a function of a name that says which parameters or tensors to use; the default is all.

    Returns:
        A 0-d tensor of the first matrix's dtype (float32 for 16-bit ones), on its device.

    Raises:
        InputError: there is nothing to penalize, an entry is no tensor, an entry of a list is no floating-point matrix, `beta` isn't a
            finite number, `reduction` is another word, or `select` is no function or is given with tensors that have no names.

    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> loss = model(torch.ones(2, 8)).square().mean() + spectral_entropy_penalty(model, beta=0.1)
    >>> loss.backward()
    >>> round(spectral_entropy_penalty([torch.eye(4), torch.ones(3, 2)], beta=1.0).item(), 4)  # (ln 4 + 0) / 2
    0.6931
    """
    checked_number("beta", beta, "a finite number")
    if reduction not in ("mean", "sum"):
        raise InputError(f'reduction: expected "mean" or "sum", got {shown(reduction)}')
    chosen = _chosen_matrices(matrices, select)
    entropies: tuple[Tensor, ...] = SpectralEntropies.apply(*chosen)  # type: ignore[no-untyped-call]
    total = torch.stack([entropy.to(entropies[0]) for entropy in entropies])
    return beta * (total.mean() if reduction == "mean" else total.sum())


@contextmanager
def weight_noise(module: nn.Module, std: float, generator: torch.Generator | None = None) -> Iterator[None]:
    """Inside the block, every floating-point parameter is θ̃ = θ + δ·N(0, 1) (Eq. 10). Each block draws new noise.

    After the block, every parameter is exactly θ.

    A gradient inside the block is the gradient at θ̃. It is stored in the parameters, and applied to θ after the block:

        with weight_noise(model, std=1e-2):
            loss_fn(model(x), y).backward()
        optimizer.step()

    Both the forward and the backward pass must be inside. Autograd refuses a backward pass after the block, because its saved
    weights are gone. θ is restored even if the block raises an exception. Names with one storage get the same noise. Frozen
    parameters get noise too; buffers don't.

    Args:
        module: the network, changed in place inside the block.
        std: the standard deviation δ ≥ 0.
        generator: the generator of the noise, on the parameters' device; PyTorch's own by default.

    Raises:
        InputError: `module` is no module, or it has a parameter without memory of its own, such as a quantized one; `std` isn't a finite
            number of at least 0; or the block has changed a parameter, as `optimizer.step()` does, and the change was lost when θ was
            restored.

    >>> layer = nn.Linear(3, 2)
    >>> before = layer.weight.detach().clone()
    >>> with weight_noise(layer, std=0.1):
    ...     layer(torch.ones(3)).sum().backward()
    ...     print(torch.equal(layer.weight, before))
    False
    >>> torch.equal(layer.weight, before), layer.weight.grad.tolist()
    (True, [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module: expected an nn.Module, whose parameters get the noise, got {type(module).__name__}")
    checked_number("std", std, "a finite number of at least 0", lambda value: value >= 0)
    parameters = _stored_once(module)
    if not parameters:
        yield
        return
    # A copy, because subtracting the noise again would not restore the last bits.
    originals = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            noise = [torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device) for p in parameters]
            torch._foreach_add_(parameters, noise, alpha=std)
        torch.clear_autocast_cache()  # a block of torch.autocast around this one may hold casts of θ, and then of θ̃
        # An optimizer step inside the block is undone at its end. The version counters of the tensors show that there was one.
        versions = _versions(parameters)
        yield
        if versions != _versions(parameters):
            raise InputError(
                "module: expected it to keep its parameters inside weight_noise; the block changed them, and the change is undone: "
                "call optimizer.step() after the block"
            )
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, originals)
        torch.clear_autocast_cache()


def _checked_tensor(given: Tensor) -> Tensor:
    if not isinstance(given, Tensor):
        raise InputError(f"matrices: expected tensors, a module or a mapping of names to tensors, got {shown(given)}")
    return given


def _chosen_matrices(
    matrices: nn.Module | Mapping[str, Tensor] | Iterable[Tensor], select: Callable[[str], bool] | None
) -> list[Tensor]:
    """The tensors to penalize, each folded into a matrix (m, n)."""
    if select is not None and not callable(select):
        raise InputError(f"select: expected a function of a name, as lambda name: 'head' not in name, got {shown(select)}")
    if isinstance(matrices, (nn.Module, Mapping)):
        named = matrices.named_parameters() if isinstance(matrices, nn.Module) else matrices.items()
        tensors = [x for name, x in named if _checked_tensor(x).is_floating_point() and (select is None or select(name))]
        chosen = [x.reshape(shape) for x in tensors if (shape := matrix_view(x.shape)) and min(shape) > 1]
    elif select is not None:
        raise InputError(
            "select: expected none where tensors come without names, got a list of tensors; give a module or a mapping"
        )
    else:
        tensors = [matrices] if isinstance(matrices, Tensor) or not isinstance(matrices, Iterable) else list(matrices)
        for x in map(_checked_tensor, tensors):
            if x.ndim < 2 or not x.numel() or not x.is_floating_point():
                raise InputError(
                    f"matrices: expected floating-point tensors of two dimensions or more, with entries, "
                    f"got {x.dtype} of shape {tuple(x.shape)}"
                )
        chosen = [x.flatten(1) for x in tensors]
    if not chosen:
        raise InputError("matrices: expected at least one tensor that has a matrix with both sides above 1, got none to penalize")
    return chosen


def _versions(parameters: list[Tensor]) -> list[int | None]:
    """How often each parameter was changed in place. PyTorch does not count this for tensors that were made in inference mode."""
    return [None if p.is_inference() else p._version for p in parameters]


def _stored_once(module: nn.Module) -> list[Tensor]:
    """One floating-point parameter for each place in memory. Tied weights may be one object, or several objects with one storage."""
    for name, parameter in module.named_parameters():
        check_in_memory(name, parameter, "module")
    floating = [p for p in module.parameters() if p.is_floating_point()]
    return list({(storage_place(p), p.storage_offset(), p.numel()): p for p in floating}.values())
