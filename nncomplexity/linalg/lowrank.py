"""Low-rank approximation: keep a matrix's largest singular components (DeMoss et al. 2025, Eqs. 12 to 14).

Shapes: a matrix is (m, n), its singular values are (min(m, n),), largest first, and rank k gives factors A (m, k) and B (k, n).
All of it is in float64 on the tensor's own device.
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

# Entries of a singular vector that differ by less count as equally large when its sign is chosen, so that rounding doesn't choose.
SIGN_TOLERANCE = 1e-6
# What the sums in Eq. 13 may be off by, relative to the sum of all singular values.
SUM_TOLERANCE = 1e-12


@dataclass(frozen=True)
class SVD:
    """The thin singular value decomposition W = U·diag(S)·Vh in float64, with r = min(m, n).

    Attributes:
        U: left singular vectors, (m, r), orthonormal columns; the largest entry of each in size is positive.
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

    It is LAPACK's, not an eigendecomposition of the Gram matrix: that one squares the singular values and so loses those below
    10⁻⁸ of the largest, and a decomposition is made once for a tensor, so that its time hardly matters. LAPACK leaves the signs
    open; here the largest entry in size of each column of U is positive (the first one, where several are equally large).

    Raises:
        InputError: `x` isn't a floating-point matrix with entries, or holds a NaN or an infinity.

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
    """Of one matrix, or of matrices side by side, (T, m, r), (T, r) and (T, r, n)."""
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
    """The same of the singular values of matrices (T, r)."""
    largest = values[:, :1]
    scaled = values / torch.where(largest > 0, largest, 1.0)
    return scaled / scaled.sum(1, keepdim=True).clamp(min=1)


def rank_for(S: Tensor, tau: float) -> int:
    """k(τ) = min{k : Σ_{i≤k} σ̄_i ≥ τ} (Eq. 13): the least rank that keeps a fraction τ of the sum of the singular values.

    The empty sum reaches τ = 0, so k(0) = 0, and a zero matrix has rank 0 at every τ. τ = 1 keeps each singular value above zero,
    however small; below 1, a sum short of τ by 10⁻¹² of the total counts as reaching it, since τ and the sums are rounded.

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
    """What each rank k, from 0 to r, leaves out of the sum of the normalized singular values of matrices: (T, r + 1) of (T, r)."""
    shares = _normalized(values)
    # Summed from the smallest up: sums from the largest down would swallow the small ones.
    return torch.cat([shares.flip(1).cumsum(1).flip(1), shares.new_zeros(len(shares), 1)], 1)


def ranks_leaving(left: Tensor, tau: float) -> list[int]:
    """k(τ) of each of T matrices, see `rank_for`, from what ranks leave out (T, r + 1)."""
    allowed = 0.0 if tau == 1 else 1 - tau + SUM_TOLERANCE
    return python_numbers((left <= allowed).int().argmax(1))


def pays(rank: int, m: int, n: int) -> bool:
    """Whether two factors hold fewer numbers than the matrix: k < mn/(m + n), the condition of Eq. 14.

    Raises:
        InputError: `m` or `n` is below 1, or `rank` below 0.

    >>> pays(63, 128, 128), pays(64, 128, 128)
    (True, False)
    """
    if m < 1 or n < 1 or rank < 0:
        raise InputError(f"m, n, rank: expected m and n of at least 1 and rank of at least 0, got m = {m}, n = {n}, rank = {rank}")
    return rank * (m + n) < m * n


def truncate(svd: SVD, rank: int) -> tuple[Tensor, Tensor]:
    """The paper's factors of the best approximation of rank k: A = U_k·S_k, (m, k), and B = V_kᵀ, (k, n) (Eq. 14).

    A·B is the nearest matrix of rank k in the Frobenius norm (Eckart and Young 1936).

    Raises:
        InputError: `rank` lies outside 0 to min(m, n).

    >>> A, B = truncate(svd(torch.tensor([[3.0, 0.0], [0.0, -1.0]])), rank=1)
    >>> (A @ B).tolist()
    [[3.0, 0.0], [0.0, 0.0]]
    """
    _check_rank(svd, rank)
    return svd.U[:, :rank] * svd.S[:rank], svd.Vh[:rank].clone()


def balanced(svd: SVD, rank: int) -> tuple[Tensor, Tensor]:
    """The same approximation with the singular values shared out: A = U_k·√S_k, (m, k), and B = √S_k·V_kᵀ, (k, n).

    Both factors then have columns, or rows, of norm √σ_i, so that one bin size suits both.

    Raises:
        InputError: `rank` lies outside 0 to min(m, n).

    >>> A, B = balanced(svd(torch.tensor([[4.0, 0.0], [0.0, 1.0]])), rank=1)
    >>> A.tolist(), B.tolist()
    ([[2.0], [0.0]], [[2.0, 0.0]])
    """
    _check_rank(svd, rank)
    root = svd.S[:rank].sqrt()
    return svd.U[:, :rank] * root, root[:, None] * svd.Vh[:rank]


def matrix_view(shape: Sequence[int]) -> tuple[int, int] | None:
    """(m, n), the matrix that a tensor of this shape is seen as: the first dimension against all others.

    A matrix stays as it is; a convolution's (out, in, k…) becomes (out, in·k…). None where there is no matrix to see: fewer than
    two dimensions, or no entries. ``x.reshape(matrix_view(x.shape))`` folds.

    >>> matrix_view((16, 3, 5, 5)), matrix_view((10,))
    ((16, 75), None)
    """
    if len(shape) < 2 or 0 in shape:
        return None
    return shape[0], math.prod(shape[1:])


class SVDCache:
    """The SVD of each tensor of a model, computed when first asked for and kept while there is room.

    A search asks for the same decompositions at every candidate. The tensors must stay as they are while the cache lives.

    Args:
        weights: tensors by name; those of other than two dimensions are folded by `matrix_view`.
        max_bytes: room for decompositions. When it is short, those asked for least recently go; one larger than all of it is
            computed afresh each time.

    Raises:
        InputError: `max_bytes` is negative; and for `cache[name]`, a name that isn't there, a tensor that no matrix can be seen in,
            or one that `svd` refuses.

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
        """What the kept decompositions take, at most `max_bytes`."""
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
        """Decompose matrices that aren't kept yet, small ones of one shape together: a search asks for those of all tensors in turn."""
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
        """U (T, m, r), S (T, r) and Vh (T, r, n) of matrices of one shape, of components as `leading` gives them."""
        self.prepare(names)
        found = [self.leading(name, rank) for name in names]
        if len(found) == 1:
            return found[0].U[None], found[0].S[None], found[0].Vh[None]
        return torch.stack([one.U for one in found]), torch.stack([one.S for one in found]), torch.stack([one.Vh for one in found])

    def leading(self, name: str, rank: int) -> SVD:
        """Components of a matrix, at least the `rank` largest where it has so many: of a large one no more, by `nncomplexity.linalg.sketch`."""
        matrix = self._matrix(name)
        return _signed(*self._sketch(name, matrix).leading(rank)) if large_matrix(matrix.shape) else self[name]

    def singular_values(self, name: str) -> Tensor:
        """All singular values of a matrix, (r,), largest first; of a large one the square roots of its Gram matrix's eigenvalues."""
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
        """The sketch of a large matrix; sketches are small compared with their matrices, so all of them are kept."""
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
