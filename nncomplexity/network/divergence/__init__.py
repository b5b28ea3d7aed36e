"""Distortions between functions: how far a network's outputs are from another's, over inputs that need no labels."""

from nncomplexity.network.divergence.faithfulness import Agreement, Faithfulness, Fidelity
from nncomplexity.network.divergence.function import Divergence, DivergenceFrom

__all__ = ["Agreement", "Divergence", "DivergenceFrom", "Faithfulness", "Fidelity"]
