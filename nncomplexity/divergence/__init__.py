"""Distortions between functions: how far a network's outputs are from another's, over inputs that need no labels."""

from nncomplexity.divergence.faithfulness import Agreement, Faithfulness, Fidelity
from nncomplexity.divergence.function import Divergence, DivergenceFrom

__all__ = ["Agreement", "Divergence", "DivergenceFrom", "Faithfulness", "Fidelity"]
