"""Colours that colour-blind readers can distinguish (those of Okabe and Ito, and greys), on light and dark backgrounds."""

from nncomplexity.show.plots.elements import NEUTRAL

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#C68A00", "#3FA7DC", "#5B4FA2")
DARK = ("#5FB4E8", "#FF9054", "#3CCFA4", "#E39AD0", "#F0C24B", "#9AD8FF", "#B3A7F2")
INK = "#333333"
GREY, DARK_GREY = "#6B7280", "#A3ACBA"


def colour(index: int) -> str:
    """The colour of a line on a light background."""
    return GREY if index == NEUTRAL else LIGHT[index % len(LIGHT)]
