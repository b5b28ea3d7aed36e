"""Low-rank approximation: keep a matrix's largest singular components (DeMoss et al. 2025, Eqs. 12 to 14).

Shapes: a matrix is (m, n), its singular values are (min(m, n),), largest first, and rank k gives factors A (m, k) and B (k, n).
All computations are in float64 on the tensor's own device.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.linalg.sizes import SMALL, large_matrix
from nncomplexity.linalg.sketch import Sketch
from nncomplexity.words import checked_count, checked_number, python_numbers

# The sign of a singular vector is chosen by its largest entry. Entries that differ by less than this count as equally large, so that
# rounding does not decide the sign.
SIGN_TOLERANCE = 1e-6
# The largest rounding error of the sums in Eq. 13, relative to the sum of all singular values.
SUM_TOLERANCE = 1e-12


@dataclass(frozen=True)
class SVD:
    """The thin singular value decomposition W = U·diag(S)·Vh in float64, with r = min(m, n).

    Attributes:
        U: left singular vectors, (m, r), orthonormal columns; the entry of largest magnitude in each is positive.
        S: singular values, (r,), largest first.
        Vh: right singular vectors, (r, n), orthonormal rows.
    """

    U: Tensor
    S: Tensor
    Vh: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes that the three factors take."""
        return self.U.nbytes + self.S.nbytes + self.Vh.nbytes


def svd(x: Tensor) -> SVD:
    """The thin SVD of a matrix (m, n), in float64.

    LAPACK computes it. An eigendecomposition of the Gram matrix would be faster, but it squares the singular values and so loses those below
    10⁻⁸ of the largest. A tensor is decomposed only once, so the time hardly matters. LAPACK doesn't fix the signs. Here the entry of largest
    magnitude in each column of U is positive (the first such entry, if several are equally large).

    Raises:
        InputError: `x` isn't a floating-point matrix with entries, or contains a NaN or an infinity.

    >>> svd(torch.tensor([[0.0, -2.0], [1.0, 0.0]])).S.tolist()
    [2.0, 1.0]
    """
    if not isinstance(x, Tensor):
        raise InputError(f"x: expected a floating-point matrix (m, n) with entries, got {type(x).__name__}; use torch.tensor")
    if x.ndim != 2 or not x.is_floating_point() or not x.numel():
        raise InputError(
            f"x: expected a floating-point matrix (m, n) with entries, got {x.dtype} of shape {tuple(x.shape)}: "
            "fold other tensors by matrix_view"
        )
    x = x.detach().double()
    if not torch.isfinite(x).all():
        raise InputError("x: expected finite values, got a NaN or an infinity; such a matrix has no SVD")
    return _signed(*torch.linalg.svd(x, full_matrices=False))


def _signed(U: Tensor, S: Tensor, Vh: Tensor) -> SVD:
    """The SVD with fixed signs, of one matrix or of a stack of T matrices, (T, m, r), (T, r) and (T, r, n)."""
    sizes = U.abs()
    largest = (sizes >= sizes.amax(-2, keepdim=True) * (1 - SIGN_TOLERANCE)).int().argmax(-2, keepdim=True)
    signs = torch.where(U.gather(-2, largest) < 0, -1.0, 1.0).to(U)
    return SVD(U * signs, S, Vh * signs.mT)


def normalized(S: Tensor) -> Tensor:
    """σ̄_i = σ_i / Σ_j σ_j (Eq. 12), in float64; all zeros for a zero matrix.

    Raises:
        InputError: `S` isn't one row of singular values, largest first.

    >>> normalized(torch.tensor([3.0, 1.0])).tolist()
    [0.75, 0.25]
    """
    return _normalized(_check_singular_values(S)[None])[0]


def _normalized(values: Tensor) -> Tensor:
    """`normalized` for the singular values of T matrices, (T, r)."""
    # Divided by the largest first, because the sum of values near the largest float would overflow.
    largest = values[:, :1]
    scaled = values / torch.where(largest > 0, largest, 1.0)
    return scaled / scaled.sum(1, keepdim=True).clamp(min=1)


def rank_for(S: Tensor, tau: float) -> int:
    """k(τ) = min{k : Σ_{i≤k} σ̄_i ≥ τ} (Eq. 13): the smallest rank that keeps a fraction τ of the sum of the singular values.

    The empty sum reaches τ = 0, so k(0) = 0, and a zero matrix has rank 0 for every τ. τ = 1 keeps every singular value above zero,
    however small. For τ below 1, a sum may fall short of τ by 10⁻¹² of the total, because τ and the sums are rounded.

    Args:
        S: singular values, (r,), largest first.
        tau: the fraction τ in [0, 1].

    Returns:
        The rank k(τ), from 0 to r.

    Raises:
        InputError: `S` isn't one row of singular values, largest first, or `tau` lies outside [0, 1].

    >>> S = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    >>> [rank_for(S, tau) for tau in (0, 0.4, 0.7, 0.75, 1)]
    [0, 1, 2, 3, 4]
    """
    checked_number(
        "tau", tau, "a number in [0, 1], the fraction of the singular values' sum to keep", lambda share: 0 <= share <= 1
    )
    return ranks_leaving(left_out(_check_singular_values(S)[None]), tau)[0]


def left_out(values: Tensor) -> Tensor:
    """The sum of the normalized singular values that each rank k from 0 to r leaves out, for T matrices: (T, r + 1) from (T, r)."""
    shares = _normalized(values)
    # The sums begin with the smallest values. In a sum that begins with the largest, the small ones would be lost by rounding.
    return torch.cat([shares.flip(1).cumsum(1).flip(1), shares.new_zeros(len(shares), 1)], 1)


def ranks_leaving(left: Tensor, tau: float) -> list[int]:
    """k(τ) of each of T matrices (see `rank_for`), from the result of `left_out`, (T, r + 1)."""
    allowed = 0.0 if tau == 1 else 1 - tau + SUM_TOLERANCE
    return python_numbers((left <= allowed).int().argmax(1))


def pays(rank: int, m: int, n: int) -> bool:
    """Whether two factors have fewer elements than the matrix: k < mn/(m + n), the condition of Eq. 14.

    Raises:
        InputError: `m` or `n` is below 1, or `rank` below 0.

    >>> pays(63, 128, 128), pays(64, 128, 128)
    (True, False)
    """
    if m < 1 or n < 1 or rank < 0:
        raise InputError(f"m, n, rank: expected m and n of at least 1 and rank of at least 0, got m = {m}, n = {n}, rank = {rank}")
    return rank * (m + n) < m * n


def truncate(svd: SVD, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of rank k as the paper's factors: A = U_k·S_k, (m, k), and B = V_kᵀ, (k, n) (Eq. 14).

    A·B is the nearest matrix of rank k in the Frobenius norm (Eckart and Young 1936).

    Raises:
        InputError: `rank` isn't from 0 to min(m, n).

    >>> A, B = truncate(svd(torch.tensor([[3.0, 0.0], [0.0, -1.0]])), rank=1)
    >>> (A @ B).tolist()
    [[3.0, 0.0], [0.0, 0.0]]
    """
    _check_rank(svd, rank)
    return svd.U[:, :rank] * svd.S[:rank], svd.Vh[:rank].clone()


def balanced(svd: SVD, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of rank k, with the singular values divided between both factors: A = U_k·√S_k and B = √S_k·V_kᵀ.

    The columns of A, (m, k), and the rows of B, (k, n), then have norms √σ_i, so the same step size suits both factors.

    Raises:
        InputError: `rank` isn't from 0 to min(m, n).

    >>> A, B = balanced(svd(torch.tensor([[4.0, 0.0], [0.0, 1.0]])), rank=1)
    >>> A.tolist(), B.tolist()
    ([[2.0], [0.0]], [[2.0, 0.0]])
    """
    _check_rank(svd, rank)
    root = svd.S[:rank].sqrt()
    return svd.U[:, :rank] * root, root[:, None] * svd.Vh[:rank]


def matrix_view(shape: Sequence[int]) -> tuple[int, int] | None:
    """The shape (m, n) of a tensor's matrix view: the rows are the first dimension, and the columns are all others.

    A matrix stays as it is. A convolution's (out, in, k…) becomes (out, in·k…). The result is None for fewer than two dimensions, or for no
    entries. ``x.reshape(matrix_view(x.shape))`` is the matrix.

    >>> matrix_view((16, 3, 5, 5)), matrix_view((10,))
    ((16, 75), None)
    """
    if len(shape) < 2 or 0 in shape:
        return None
    return shape[0], math.prod(shape[1:])


class SVDCache:
    """A cache of the SVDs of tensors. An SVD is computed at its first use, and kept while there is room.

    A search needs the same decompositions for every candidate. The tensors must not change while the cache is in use.

    Args:
        weights: tensors by name. A tensor with more than two dimensions is folded by `matrix_view`.
        max_bytes: the largest size of all kept decompositions. The least recently used ones are dropped first. A decomposition that is larger
            than this is computed again at each use.

    Raises:
        InputError: `max_bytes` is negative. For `cache[name]`: there is no such name, the tensor has no matrix view, or `svd` refuses
            it.

    >>> cache = SVDCache({"conv": torch.ones(2, 3, 1, 1)})
    >>> cache["conv"].S.shape
    torch.Size([2])
    """

    def __init__(self, weights: Mapping[str, Tensor], max_bytes: int = 2**30) -> None:
        checked_count("max_bytes", max_bytes, 0)
        self._weights = dict(weights)
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, SVD] = OrderedDict()
        self._sketches: dict[str, Sketch] = {}
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all kept decompositions, at most `max_bytes`."""
        return self._nbytes

    def __getitem__(self, name: str) -> SVD:
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        result = svd(self._matrix(name))
        self._keep(name, result)
        return result

    def _keep(self, name: str, result: SVD) -> None:
        if result.nbytes <= self._max_bytes:
            self._kept[name] = result
            self._nbytes += result.nbytes
            while self._nbytes > self._max_bytes:
                self._nbytes -= self._kept.popitem(last=False)[1].nbytes

    def prepare(self, names: Iterable[str]) -> None:
        """Decompose small matrices that aren't kept yet, those of one shape in one call. A search needs those of all tensors anyway."""
        shapes: dict[tuple[int, int], list[str]] = {}
        for name in names:
            shape = matrix_view(self._weights[name].shape)
            if shape and name not in self._kept and shape[0] * shape[1] <= SMALL and not large_matrix(shape):
                shapes.setdefault(shape, []).append(name)
        for group in shapes.values():
            matrices = torch.stack([self._matrix(name).double() for name in group])
            if len(group) > 1 and torch.isfinite(matrices).all():
                whole = _signed(*torch.linalg.svd(matrices, full_matrices=False))
                for name, *parts in zip(group, whole.U.unbind(), whole.S.unbind(), whole.Vh.unbind(), strict=True):
                    self._keep(name, SVD(*parts))

    def leading_together(self, names: Sequence[str], rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """U (T, m, r), S (T, r) and Vh (T, r, n) of T matrices of one shape, with the components of `leading`."""
        self.prepare(names)
        found = [self.leading(name, rank) for name in names]
        if len(found) == 1:
            return found[0].U[None], found[0].S[None], found[0].Vh[None]
        return torch.stack([one.U for one in found]), torch.stack([one.S for one in found]), torch.stack([one.Vh for one in found])

    def leading(self, name: str, rank: int) -> SVD:
        """The largest components of a matrix: exactly `rank` of a large matrix (`nncomplexity.linalg.sketch`), all of a smaller one."""
        matrix = self._matrix(name)
        return _signed(*self._sketch(name, matrix).leading(rank)) if large_matrix(matrix.shape) else self[name]

    def singular_values(self, name: str) -> Tensor:
        """All singular values of a matrix, (r,), largest first. For a large matrix they are roots of the Gram matrix's eigenvalues."""
        matrix = self._matrix(name)
        return self._sketch(name, matrix).values() if large_matrix(matrix.shape) else self[name].S

    def _matrix(self, name: str) -> Tensor:
        if name not in self._weights:
            raise InputError(f"name: expected that of one of the {len(self._weights)} tensors given, got {name!r}")
        weight = self._weights[name]
        shape = matrix_view(weight.shape)
        if shape is None:
            raise InputError(f"{name}: expected two dimensions or more, and entries, got shape {tuple(weight.shape)}")
        return weight.detach().reshape(shape)

    def _sketch(self, name: str, matrix: Tensor) -> Sketch:
        """The sketch of a large matrix. Sketches are small compared with their matrices, so all of them are kept."""
        if name not in self._sketches:
            if not torch.isfinite(matrix).all():
                raise InputError(f"{name}: expected finite values, got a NaN or an infinity; such a matrix has no SVD")
            self._sketches[name] = Sketch(matrix)
        return self._sketches[name]


def _check_singular_values(S: Tensor) -> Tensor:
    values = S.detach().double()
    if S.ndim != 1 or not (torch.isfinite(values).all() and (values >= 0).all() and (values.diff() <= 0).all()):
        raise InputError(
            f"S: expected one row of finite singular values >= 0, largest first, as svd gives, got shape {tuple(S.shape)}"
        )
    return values


def _check_rank(svd: SVD, rank: int) -> None:
    most = len(svd.S)
    checked_count("rank", rank, 0, most, f"a number from 0 to {most}, the number of singular values")
