"""Regularizers for a training loop. They lead to simpler networks (Eqs. 10, 16).

- `spectral_gradient`: the spectral entropy with its gradient, as autograd takes it
- `regularizers`: the spectral entropy penalty and weight noise
"""

from nncomplexity.training.regularizers import spectral_entropy_penalty, weight_noise

__all__ = [
    "spectral_entropy_penalty",
    "weight_noise",
]
