"""The spectral entropy of matrices and its gradient (DeMoss et al. 2025, Eqs. 12, 15).

Both are fast enough for every step of a training loop.

With σ_i the singular values of W (m, n), m ≥ n, and S = Σ σ_i, the entropy H = −Σ σ̄_i ln σ̄_i has

    dH/dσ_i = −(ln σ̄_i + H) / S          dH/dW = U·diag(dH/dσ)·Vᵀ = Z·diag(dH/dσ_i / σ_i)·Vᵀ, with Z = W·V,

so the eigenvectors V of WᵀW are enough. σ_i is the norm of column i of Z. There is no division by a difference of singular values,
so equal singular values are no problem. Squaring loses digits, so everything is in float64: with a Gram matrix in float32,
gradients of trained weights were wrong by up to a third. At the sizes of layers, an eigensolver gains nothing from several threads.
So on a CPU, each of PyTorch's threads works on its own matrices.

dH/dσ grows without bound as σ → 0, and a Gram matrix in float64 loses singular values below √(n·2⁻⁵²) of the largest, about 10⁻⁷.
Below this limit, the factor dH/dσ_i / σ_i keeps its value at the limit, so the gradient goes linearly to 0 with σ_i.
"""

import functools
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from nncomplexity.errors import InputError

# Matrices with smaller or larger sides stay in the calling thread. Small eigenproblems take less time than a change of thread, and large
# ones use several threads themselves.
WORKER_SIDES = range(48, 1024)


class SpectralEntropies(torch.autograd.Function):
    """H_svd of each matrix. The gradients are computed in the same pass, from the same eigenvectors."""

    @staticmethod
    def forward(ctx: Any, *matrices: Tensor) -> tuple[Tensor, ...]:
        """The entropies H_svd of matrices (m, n), a 0-d tensor each; their gradients are kept for `backward`."""
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
        """The gradient of each matrix, from that of its entropy; raises InputError for a second derivative."""
        if torch.is_grad_enabled():
            # Autograd would treat the gradient as a constant, with derivative zero.
            raise InputError(
                "create_graph: expected False where spectral_entropy_penalty is part of the loss, got True: its gradient can't be "
                "differentiated again, so take it in a backward pass of its own"
            )
        return tuple(
            None if inner is None else _within_range(g * inner, dtype)
            for g, inner, dtype in zip(outer, ctx.saved_tensors, ctx.dtypes, strict=True)
        )


Solved = tuple[Tensor, Tensor | None]


def _solve_on_threads(matrices: Sequence[Tensor], wanted: Sequence[bool]) -> list[Solved]:
    """The matrices one by one, on as many threads as PyTorch has, each with one thread."""
    threads = torch.get_num_threads()
    # The longest first, so that no thread starts with it at the end.
    order = sorted(range(len(matrices)), key=lambda i: -matrices[i].numel() * min(matrices[i].shape))
    handed = [i for i in order if threads > 1 and min(matrices[i].shape) in WORKER_SIDES]
    futures = {i: _workers(threads).submit(_solve, matrices[i], wanted[i]) for i in handed}
    kept = {i: _solve(matrices[i], wanted[i]) for i in order if i not in futures}
    return [futures[i].result() if i in futures else kept[i] for i in range(len(matrices))]


def _solve_in_batches(matrices: Sequence[Tensor], wanted: Sequence[bool]) -> list[Solved]:
    """The matrices of one shape, dtype and device together, for accelerators."""
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
    """H_svd (…) and, if wanted, dH/dx (…, m, n) of the matrices x (…, m, n), by the formulas at the top of this file."""
    tall = x if x.shape[-2] >= x.shape[-1] else x.mT
    exact = tall.double()
    # H doesn't depend on the scale, and with entries up to 1 no square overflows or underflows.
    scale = exact.abs().amax((-2, -1), keepdim=True)
    finite = scale.isfinite()
    if not finite.all():
        exact = torch.where(finite, exact, 0.0)
    shrink = torch.where(finite & (scale >= _smallest_scale(x.dtype)), 1 / scale, 0.0)
    exact = exact * shrink
    V = torch.linalg.eigh(exact.mT @ exact).eigenvectors
    Z = exact @ V
    sigma = Z.square().sum(-2, keepdim=True).sqrt()
    # The largest singular value is at least the largest entry, 1. Only for a zero matrix, these bounds avoid a division by 0.
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
    """Whether gradients of small matrices can be out of range.

    The range of float16 ends at 65504. bfloat16 has the range of float32.
    """
    return torch.finfo(dtype).max < 1e30


def _within_range(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient (m, n) in the dtype. If it is out of a narrow range, it is scaled down and keeps its direction."""
    if not _is_narrow(dtype):
        return gradient
    largest = gradient.abs().amax()
    return (gradient * (torch.finfo(dtype).max / largest).clamp(max=1)).to(dtype)


def _smallest_scale(dtype: torch.dtype) -> float:
    """A matrix counts as zero if its largest entry is below this number.

    The gradient of such a matrix, which is up to 40 divided by the entry, would be out of range.
    """
    return 64 * torch.finfo(torch.promote_types(dtype, torch.float32)).tiny


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads compute with one thread each.

    By default, PyTorch would give each of them as many threads as there are cores.
    """
    started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # at the first request, a thread takes over the common number, which would replace the 1
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="spectral-entropy", initializer=start)
    for _ in range(threads):
        pool.submit(torch.get_num_threads)
    started.wait()
    # Each thread has its own number, but threads that start later begin with the last one that was set.
    torch.set_num_threads(threads)
    return pool


if hasattr(os, "register_at_fork"):  # threads don't survive a fork, and the child would wait for them forever
    os.register_at_fork(after_in_child=_workers.cache_clear)
