"""Regularizers for a training loop: a penalty on the spectral entropy, and noise on the weights (DeMoss et al. 2025, Eqs. 10, 16).

How the penalty is differentiated. With σ_i the singular values of W (m, n), m ≥ n, and S = Σ σ_i, the entropy H = −Σ σ̄_i ln σ̄_i has

    dH/dσ_i = −(ln σ̄_i + H) / S          dH/dW = U·diag(dH/dσ)·Vᵀ = Z·diag(dH/dσ_i / σ_i)·Vᵀ, with Z = W·V,

so the eigenvectors V of WᵀW are enough, σ_i is the norm of column i of Z, and no difference of singular values ever divides: equal
ones do no harm. Squaring costs digits, so all of it is in float64: by a Gram matrix in float32, gradients of trained weights were
wrong by up to a third. An eigensolver gains nothing from several threads at the sizes of layers, so on a CPU each of PyTorch's
threads takes matrices of its own.

dH/dσ grows without bound as σ → 0, and a Gram matrix in float64 knows nothing of singular values below √(n·2⁻⁵²) of the largest,
about 10⁻⁷. Below that floor the factor dH/dσ_i / σ_i is held at its value there, so the gradient fades linearly to 0 with σ_i.
"""

import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.lowrank import matrix_view

# Smaller sides, whose eigenproblems take less time than handing them to another thread does, and larger ones, which keep several
# threads busy by themselves, are left to the calling thread.
WORKER_SIDES = range(48, 1024)


def spectral_entropy_penalty(
    matrices: nn.Module | Mapping[str, Tensor] | Iterable[Tensor],
    beta: float = 0.1,
    reduction: Literal["mean", "sum"] = "mean",
    select: Callable[[str], bool] | None = None,
) -> Tensor:
    """L_reg = β·H_svd (Eq. 16), to be added to a loss: H_svd in nats (Eqs. 12 and 15), the mean over the matrices.

    A zero matrix has entropy 0 and gradient 0; singular values below 10⁻⁷ or so of the largest get a gradient that fades to 0,
    as the head of this file says. In float16 a gradient that would leave the range is scaled down into it. A NaN or an infinity
    in a matrix makes its entropy and its gradient NaN. The gradient can't be differentiated again, and `create_graph=True`
    raises an InputError.

    Args:
        matrices: tensors of two dimensions or more, each seen as a matrix by `lowrank.matrix_view`; or a module's parameters or a
            mapping's tensors, of which those are taken whose matrix has both sides above 1, as a vector or a single row has no
            entropy to lower. A module's tied parameter counts once.
        beta: the weight β in the loss.
        reduction: "mean", as the paper's authors do, so that β means the same for any depth; or "sum".
        select: which of a module's parameters or a mapping's tensors to take, by name; all of them unless given.

    Returns:
        A 0-d tensor of the first matrix's dtype (float32 for 16-bit ones), on its device.

    Raises:
        InputError: nothing is left to penalize, what is given is no tensor or, on its own, no floating-point matrix, `beta` isn't
            a finite number, `reduction` is another word, or `select` is no function or comes with tensors that have no names.

    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> loss = model(torch.ones(2, 8)).square().mean() + spectral_entropy_penalty(model, beta=0.1)
    >>> loss.backward()
    >>> round(spectral_entropy_penalty([torch.eye(4), torch.ones(3, 2)], beta=1.0).item(), 6) == round(math.log(4) / 2, 6)
    True
    """
    _check_number("beta", beta, "a finite number")
    if reduction not in ("mean", "sum"):
        raise InputError(f'reduction must be "mean" or "sum"; got {reduction!r}')
    chosen = _chosen_matrices(matrices, select)
    entropies: tuple[Tensor, ...] = _SpectralEntropies.apply(*chosen)  # type: ignore[no-untyped-call]
    total = torch.stack([entropy.to(entropies[0]) for entropy in entropies])
    return beta * (total.mean() if reduction == "mean" else total.sum())


@contextmanager
def weight_noise(module: nn.Module, std: float, generator: torch.Generator | None = None) -> Iterator[None]:
    """Inside the block every floating-point parameter is θ̃ = θ + δ·N(0, 1), drawn afresh on entry (Eq. 10); after it, θ to the bit.

    A gradient computed inside is that at θ̃, and lands on the parameters, to be applied to θ after the block:

        with weight_noise(model, std=1e-2):
            loss_fn(model(x), y).backward()
        optimizer.step()

    Both the forward and the backward pass belong inside: autograd refuses a backward pass after it, since the weights it saved are
    gone. θ comes back also when the block raises. Names that share one storage get one and the same noise; frozen parameters get
    noise too; buffers don't.

    Args:
        module: the network, changed in place inside the block.
        std: the standard deviation δ ≥ 0.
        generator: where the noise comes from, on the parameters' device; PyTorch's own by default.

    Raises:
        InputError: `module` is none; `std` isn't a finite number of at least 0; or the block has changed a parameter, as
            `optimizer.step()` does: the change would be lost, as θ is put back.

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
        raise InputError(f"module must be an nn.Module, whose parameters get the noise; got {type(module).__name__}")
    _check_number("std", std, "a finite number of at least 0", least=0.0)
    parameters = _stored_once(module)
    if not parameters:
        yield
        return
    originals = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            noise = [torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device) for p in parameters]
            torch._foreach_add_(parameters, noise, alpha=std)
        versions = [p._version for p in parameters]
        yield
        if versions != [p._version for p in parameters]:
            raise InputError(
                "module must keep its parameters inside weight_noise; the block changed them, and the change is undone: "
                "call optimizer.step() after the block"
            )
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, originals)


def _check_number(name: str, value: object, expected: str, least: float = -math.inf) -> None:
    """A number may be a tensor of one element, too, such as a weight β that is learned."""
    try:
        fine = math.isfinite(value) and value >= least  # type: ignore[arg-type, operator]
    except (TypeError, ValueError, RuntimeError):
        fine = False
    if not fine:
        raise InputError(f"{name} must be {expected}; got {value!r}")


def _checked_tensor(given: Tensor) -> Tensor:
    if not isinstance(given, Tensor):
        raise InputError(f"matrices must be tensors, a module or a mapping of names to tensors; got {given!r}")
    return given


def _chosen_matrices(
    matrices: nn.Module | Mapping[str, Tensor] | Iterable[Tensor], select: Callable[[str], bool] | None
) -> list[Tensor]:
    """The tensors to penalize, each folded into a matrix (m, n)."""
    if select is not None and not callable(select):
        raise InputError(f"select must be a function of a name, as lambda name: 'head' not in name; got {select!r}")
    if isinstance(matrices, (nn.Module, Mapping)):
        named = matrices.named_parameters() if isinstance(matrices, nn.Module) else matrices.items()
        tensors = [x for name, x in named if _checked_tensor(x).is_floating_point() and (select is None or select(name))]
        chosen = [x.reshape(shape) for x in tensors if (shape := matrix_view(x.shape)) and min(shape) > 1]
    elif select is not None:
        raise InputError(
            "select must be left out where tensors come without names; got a list of tensors: give a module or a mapping"
        )
    else:
        tensors = [matrices] if isinstance(matrices, Tensor) or not isinstance(matrices, Iterable) else list(matrices)
        for x in map(_checked_tensor, tensors):
            if x.ndim < 2 or not x.numel() or not x.is_floating_point():
                raise InputError(
                    f"matrices must be floating-point tensors of two dimensions or more, with entries; "
                    f"got {x.dtype} of shape {tuple(x.shape)}"
                )
        chosen = [x.flatten(1) for x in tensors]
    if not chosen:
        raise InputError("matrices must hold at least one tensor that has a matrix with both sides above 1; got none to penalize")
    return chosen


def _stored_once(module: nn.Module) -> list[Tensor]:
    """One floating-point parameter for each place in memory: tied weights may be one object, or several over one storage."""
    floating = [p for p in module.parameters() if p.is_floating_point()]
    return list({(p.untyped_storage().data_ptr(), p.storage_offset(), p.numel(), p.device): p for p in floating}.values())


class _SpectralEntropies(torch.autograd.Function):
    """H_svd of each matrix, with the gradients made in the same pass while the eigenvectors are there."""

    @staticmethod
    def forward(ctx: Any, *matrices: Tensor) -> tuple[Tensor, ...]:
        detached = [x.detach() for x in matrices]
        if all(x.device.type == "cpu" for x in detached):
            solved = _solve_on_threads(detached, ctx.needs_input_grad)
        else:
            solved = _solve_in_batches(detached, ctx.needs_input_grad)
        ctx.save_for_backward(*(gradient for _, gradient in solved))
        ctx.dtypes = [x.dtype for x in detached]
        return tuple(entropy for entropy, _ in solved)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            # Autograd would take the gradient for a constant, and its derivative for zero.
            raise InputError(
                "create_graph must be False where spectral_entropy_penalty is part of the loss; got True: its gradient can't be "
                "differentiated again, so take it in a backward pass of its own"
            )
        return tuple(
            None if inner is None else _within_range(g * inner, dtype)
            for g, inner, dtype in zip(outer, ctx.saved_tensors, ctx.dtypes, strict=True)
        )


Solved = tuple[Tensor, Tensor | None]


def _solve_on_threads(matrices: Sequence[Tensor], wanted: Sequence[bool]) -> list[Solved]:
    """The matrices one by one, on as many threads as PyTorch has, with one thread for each."""
    threads = torch.get_num_threads()
    # The longest first, so that no thread starts on it when the others are done.
    order = sorted(range(len(matrices)), key=lambda i: -matrices[i].numel() * min(matrices[i].shape))
    handed = [i for i in order if threads > 1 and min(matrices[i].shape) in WORKER_SIDES]
    futures = {i: _workers(threads).submit(_solve, matrices[i], wanted[i]) for i in handed}
    kept = {i: _solve(matrices[i], wanted[i]) for i in order if i not in futures}
    return [futures[i].result() if i in futures else kept[i] for i in range(len(matrices))]


def _solve_in_batches(matrices: Sequence[Tensor], wanted: Sequence[bool]) -> list[Solved]:
    """The matrices of one shape, dtype and device together, as accelerators need it."""
    groups: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = {}
    for i, x in enumerate(matrices):
        groups.setdefault((x.shape, x.dtype, x.device), []).append(i)
    solved: dict[int, Solved] = {}
    for members in groups.values():
        entropies, gradients = _solve(torch.stack([matrices[i] for i in members]), any(wanted[i] for i in members))
        for row, i in enumerate(members):
            solved[i] = entropies[row], gradients[row] if gradients is not None and wanted[i] else None
    return [solved[i] for i in range(len(matrices))]


def _solve(x: Tensor, want_gradient: bool) -> Solved:
    """H_svd (…) and, if wanted, dH/dx (…, m, n) of the matrices x (…, m, n), by the formulas at the head of this file."""
    tall = x if x.shape[-2] >= x.shape[-1] else x.mT
    exact = tall.double()
    # H doesn't change with the scale, and with entries up to 1 no square overflows or vanishes.
    scale = exact.abs().amax((-2, -1), keepdim=True)
    finite = scale.isfinite()
    if not finite.all():
        exact = torch.where(finite, exact, 0.0)
    shrink = torch.where(finite & (scale >= _smallest_scale(x.dtype)), 1 / scale, 0.0)
    exact = exact * shrink
    V = torch.linalg.eigh(exact.mT @ exact).eigenvectors
    Z = exact @ V
    sigma = Z.square().sum(-2, keepdim=True).sqrt()
    # The largest singular value is at least the largest entry, 1; only a zero matrix needs these bounds, not to divide by 0.
    total = sigma.sum(-1, keepdim=True).clamp(min=1)
    largest = sigma.amax(-1, keepdim=True).clamp(min=1)
    entropy = torch.special.entr(sigma / total).sum(-1, keepdim=True)
    dtype = torch.promote_types(x.dtype, torch.float32)
    result = torch.where(finite, entropy, math.nan)[..., 0, 0].to(dtype)
    if not want_gradient:
        return result, None
    floored = sigma.maximum(largest * math.sqrt(exact.shape[-1] * torch.finfo(torch.float64).eps))
    factor = -((floored / total).log() + entropy) * shrink / (total * floored)
    factor = torch.where(finite, factor, math.nan)
    with torch.autocast(x.device.type, enabled=False):
        gradient = (Z * factor).to(dtype) @ V.mT.to(dtype)
    gradient = gradient if tall is x else gradient.mT
    return result, gradient if _is_narrow(x.dtype) else gradient.to(x.dtype)


def _is_narrow(dtype: torch.dtype) -> bool:
    """Whether gradients of small matrices leave the range, as float16's, which ends at 65504; bfloat16's is that of float32."""
    return torch.finfo(dtype).max < 1e30


def _within_range(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient (m, n) in the dtype; one that goes beyond a narrow range keeps its direction, and as much of its size as there is."""
    if not _is_narrow(dtype):
        return gradient
    largest = gradient.abs().amax()
    return (gradient * (torch.finfo(dtype).max / largest).clamp(max=1)).to(dtype)


def _smallest_scale(dtype: torch.dtype) -> float:
    """Below this largest entry a matrix counts as zero: its gradient, up to 40 over the entry, would leave the range in which it is made."""
    return 64 * torch.finfo(torch.promote_types(dtype, torch.float32)).tiny


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads compute with one thread each, where PyTorch would give each of them as many as there are cores."""
    started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread takes the common number when it first asks, and would so undo what is set before
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="spectral-entropy", initializer=start)
    for _ in range(threads):
        pool.submit(torch.get_num_threads)
    started.wait()
    # The number is each thread's own, but the last one set is also what threads started later begin with.
    torch.set_num_threads(threads)
    return pool


if hasattr(os, "register_at_fork"):  # threads don't survive a fork, and a child would wait for them for ever
    os.register_at_fork(after_in_child=_workers.cache_clear)
