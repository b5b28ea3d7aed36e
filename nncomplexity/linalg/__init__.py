"""Arithmetic on matrices and numbers, without networks, losses or files.

- `sizes`: the size from which a network or a matrix counts as large
- `quantize`: real numbers as multiples of a step (Eqs. 9, 11), rounded once
- `sketch`: singular values and leading components of a large matrix
- `lowrank`: SVD, rank by τ, factors (Eqs. 12 to 14), and a bounded cache of decompositions
- `basis`: Fourier vectors and unit vectors for the rows of a factor, as integers
- `spectral`: spectral entropy and effective rank (Eq. 15)
- `fits`: the convex hull of a rate-distortion curve, and formulas fitted to it
- `switches`: global settings of PyTorch and NumPy: default values for the package, and the user's values for the user's functions
"""

from nncomplexity.linalg.basis import MOST_ROWS, largest_entry, shift, waves
from nncomplexity.linalg.fits import Fit, along_hull, best_of, fitted, lower_hull
from nncomplexity.linalg.lowrank import (
    SVDCache,
    balanced,
    left_out,
    matrix_view,
    pays,
    rank_for,
    ranks_leaving,
    svd,
    truncate,
)
from nncomplexity.linalg.quantize import (
    LARGEST_SYMBOL,
    capacity,
    dequantize,
    quantize,
    round_once,
    symbols,
)
from nncomplexity.linalg.sizes import RANKED, SMALL, large_matrix, large_network
from nncomplexity.linalg.sketch import Sketch, gram
from nncomplexity.linalg.spectral import (
    effective_rank,
    effective_rank_of,
    effective_ranks,
    spectral_entropy,
)
from nncomplexity.linalg.switches import (
    Switches,
    no_anomaly_detection,
    users_switches,
    usual_switches,
)

__all__ = [
    "LARGEST_SYMBOL",
    "MOST_ROWS",
    "RANKED",
    "SMALL",
    "Fit",
    "SVDCache",
    "Sketch",
    "Switches",
    "along_hull",
    "balanced",
    "best_of",
    "capacity",
    "dequantize",
    "effective_rank",
    "effective_rank_of",
    "effective_ranks",
    "fitted",
    "gram",
    "large_matrix",
    "large_network",
    "largest_entry",
    "left_out",
    "lower_hull",
    "matrix_view",
    "no_anomaly_detection",
    "pays",
    "quantize",
    "rank_for",
    "ranks_leaving",
    "round_once",
    "shift",
    "spectral_entropy",
    "svd",
    "symbols",
    "truncate",
    "users_switches",
    "usual_switches",
    "waves",
]
