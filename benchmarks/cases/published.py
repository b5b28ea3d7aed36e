"""Published figures on MNIST: sizes at a test error, and bounds on the test error."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The size of a network's file at a test error."""

    case: str
    method: str
    bytes: int
    test_error: float
    source: str


@dataclass(frozen=True)
class PublishedBound:
    """A bound on the test error whose prior doesn't depend on data, and the number of training images."""

    value: float
    n: int
    source: str


_EPR = "Oktay et al. 2020, arXiv 1906.06624, as in the table of TensorFlow Compression's tutorial"
_MIRACLE = "Havasi et al. 2019, arXiv 1810.00440"
_EXCHANGE = "Paraschivescu's exchange format for MIRACLE"
SIZES = (
    Size("mnist/lenet300", "entropy-penalised reparameterisation", 8560, 0.019, _EPR),
    Size("mnist/lenet5", "MIRACLE", 3030, 0.0069, _MIRACLE),
    Size("mnist/lenet5", "MIRACLE", 1520, 0.0096, _MIRACLE),
    Size("mnist/lenet5", "MIRACLE, exchange format", 1720, 0.0083, _EXCHANGE),
    Size("mnist/lenet5", "MIRACLE, exchange format", 1150, 0.0098, _EXCHANGE),
)
BOUNDS = (
    PublishedBound(0.166, 60_000, "Lotfi et al. 2022, arXiv 2211.13609, in their notebook"),
    PublishedBound(0.116, 60_000, "Lotfi et al. 2022, arXiv 2211.13609, in their table"),
)
"""The smallest for MNIST. For CIFAR-10 (n = 50,000) their notebook has 0.560."""
