"""Searches for the smallest file within ε, under one contract.

Which one? `tight` is the default, and its files are the smallest. `allocate` needs no gradient, and at most 100 evaluations. `bayes` and
`quantize` are the paper's Algorithms 1 and 2, unchanged, so that figures can be compared with published ones. docs/search.md explains how
`tight` works.

- `contract`: what a method takes and must return
- `problem`: what a search is given, its candidates, and whether one is within ε (`Problem.feasible`)
- `stopping`: how a search tells its progress, and how it is ended early
- `timing`: a limit on the time of a search
- `points`: a point (τ, Δ) of the paper's searches, and the record of measured points
- `quantize`: Algorithm 2
- `bayes`: Algorithm 1
- `constrained`: its optimiser, in two versions of Optuna
- `shared`: Algorithm 1 by several processes, in an Optuna storage
- `tight`: the default method: its stages, and when it stops
- `settings`: the settings of `tight`
- `starts`: the starts of its descents, and their order
- `initial`: the latents of a start
- `descent`: one cycle of a descent on bits and distortion
- `blocks`: the arithmetic of its steps
- `rate`: the differentiable rate
- `average`: the running mean of latents, which is a descent's candidate
- `dual`: the controller of the dual variable
- `batches`: the examples of each step
- `latent`: the continuous numbers behind a coarse tensor
- `factorizations`: latents of a rank and a step size
- `bases`: the bases in which factors are sparse: rotations of components, and waves
- `bisection`: the first or the last index at which a condition holds
- `layouts`: which tensors need fewer numbers in blocks or in another folding
- `fallback`: uniform quantization, and tensors without a gradient
- `tensors`: which tensors may change, which have a gradient, and their decompositions
- `trials`: the candidates of a search: measured, kept if they are within ε, and the answer measured again at the end
- `methods`: the methods by name
- `interrupt`: Ctrl-C as the end of a search
- `allocate`: bit allocation: a step size, a form and a rank for each tensor by the Lagrangian
- `choices`: its choices, each measured once, and the best one within ε
- `local_steps`: its last stage: small changes of the best choice
- `lagrangian`: which operating point each tensor takes for one λ
- `operating_points`: the operating points of a tensor: bits and squared errors
- `scans`: a matrix with many step sizes and of several ranks, with estimated bits and errors
- `forms`: the forms in which a tensor may be coded, and the bits of their symbols
- `compensated`: rounding in which the columns not yet rounded compensate for the error of a rounded column
- `lattice`: a basis in which a factor consists of small integers
- `sensitivity`: the distortion for each unit of a tensor's squared error, measured with noise
"""

from nncomplexity.search.allocate import Allocate
from nncomplexity.search.bayes import Bayes
from nncomplexity.search.contract import DESCENT, LOSSLESS, Found, Method
from nncomplexity.search.interrupt import FROM_OUTSIDE, Interrupt
from nncomplexity.search.methods import method_named
from nncomplexity.search.problem import Candidate, Problem
from nncomplexity.search.quantize import Quantize
from nncomplexity.search.stopping import Progress, StopSearch, unseen
from nncomplexity.search.tight import Tight
from nncomplexity.search.timing import TimeLimit

__all__ = [
    "DESCENT",
    "FROM_OUTSIDE",
    "LOSSLESS",
    "Allocate",
    "Bayes",
    "Candidate",
    "Found",
    "Interrupt",
    "Method",
    "Problem",
    "Progress",
    "Quantize",
    "StopSearch",
    "Tight",
    "TimeLimit",
    "method_named",
    "unseen",
]
