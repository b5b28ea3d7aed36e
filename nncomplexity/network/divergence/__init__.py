"""Distortions between functions: how much the outputs of two networks differ, over inputs that need no labels."""

from nncomplexity.network.divergence.faithfulness import Agreement, Faithfulness, Fidelity
from nncomplexity.network.divergence.function import Divergence, DivergenceFrom

__all__ = ["Agreement", "Divergence", "DivergenceFrom", "Faithfulness", "Fidelity"]
