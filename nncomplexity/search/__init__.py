"""Searches for the smallest file within ε, under one contract.

Which one? `tight` is the default and the smallest where ε is not small. `allocate` needs no gradient. `bayes` and
`quantize` are the paper's Algorithms 1 and 2, kept as they are so that figures compare. docs/search.md tells how `tight` works.

- `contract`: what a search is given and must give back; a candidate's distortion is compared with ε here
- `timing`: a limit on the time of a search
- `points`: a point (τ, Δ) of the paper's searches, and the record of those measured
- `quantize`: Algorithm 2
- `bayes`: Algorithm 1
- `constrained`: its optimiser, in two versions of Optuna
- `shared`: Algorithm 1 by several processes, in an Optuna storage
- `tight`: the default method: its stages, its starts and when it stops
- `settings`: the settings of `tight`
- `initial`: where its descents begin
- `descent`: one cycle of a descent on bits and distortion
- `blocks`: the arithmetic of its steps
- `rate`: the differentiable rate
- `dual`: the dual variable, led by the distortion
- `batches`: the examples of each step
- `latent`: the continuous numbers behind a coarse tensor
- `start`: latents of a rank and a step size
- `layouts`: which tensors are better in blocks or in another folding
- `fallback`: uniform quantization, and what there is without a gradient
- `moves`: single moves, for a loss without a gradient
- `tensors`: which tensors move, which have a gradient, and their decompositions
- `trials`: the candidates of a search: measured, kept for every ε that they are within, confirmed
- `trust`: the trust region of short cycles: which steps are taken back
- `sweep`: many ε, each from where the one before has ended
- `methods`: the methods by name
- `interrupt`: Ctrl-C as the end of a search
- `allocate`: bit allocation: a step, a form and a rank for each tensor by the Lagrangian
- `lagrangian`: which operating point each tensor takes at one λ
- `operating_points`: the points of a tensor: bits and squared errors
- `scans`: a matrix under many steps and of several ranks, with estimated bits and errors
- `forms`: what a tensor may be coded as, and what its symbols take
- `compensated`: rounding in which the errors of one column are made up for by others
- `lattice`: a basis in which a factor is made of small integers
- `sensitivity`: how much distortion a squared error of a tensor costs, by probes
"""

from nncomplexity.search.bayes import Bayes
from nncomplexity.search.contract import DESCENT, LOSSLESS, Candidate, Found, Method, Problem, Progress, StopSearch, unseen
from nncomplexity.search.interrupt import FROM_OUTSIDE, Interrupt
from nncomplexity.search.methods import method_named
from nncomplexity.search.quantize import Quantize
from nncomplexity.search.sweep import Sweep, for_many_eps
from nncomplexity.search.tight import Tight
from nncomplexity.search.timing import TimeLimit

__all__ = [
    "DESCENT",
    "FROM_OUTSIDE",
    "LOSSLESS",
    "Bayes",
    "Candidate",
    "Found",
    "Interrupt",
    "Method",
    "Problem",
    "Progress",
    "Quantize",
    "StopSearch",
    "Sweep",
    "Tight",
    "TimeLimit",
    "for_many_eps",
    "method_named",
    "unseen",
]
