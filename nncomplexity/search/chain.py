"""A chain of descents: each from where the last one ended, to a finer ε.

A network that was brought to a coarse ε holds little, and what it holds is in order. From there a few gradients lead to the next finer
ε, and the file is often smaller than one that was sought for that ε alone.
"""

from collections.abc import Iterator, Sequence

from nncomplexity.search.run import Run

LINK, OUTWARD_LINK = 150, 110
"""Evaluations that a link is worth, to a finer ε and to a coarser one: some forty gradients and thirty."""
_APART = 2.5
"""How many times finer the next ε must be for its link to begin with half the steps."""
_PRESSED = 2.0
"""How many times harder a link to a coarser ε is pressed than others: it begins far within it."""


def inwards(run: Run, ladder: Sequence[float], budget: float, presses: Sequence[float], spare: int = 0) -> Iterator[float]:
    """Links from the first ε of a ladder, where the run has ended, to each of the others, yielding each as its link ends.

    A link that misses its ε, which no other can then go on from, is followed by a gentle one with half the steps; rungs are passed over for it.

    Args:
        run: where the chain begins; afterwards, where it ended.
        ladder: ε from coarse to fine.
        budget: evaluations for all links.
        presses: the ε that are to be answered; the end of each link is pressed to those that it passes.
        spare: links beyond one for each ε. Those that no miss has taken lead to the last ε once more.
    """
    end, links = run.trials.spent + budget, len(ladder) - 1 + spare
    rest, landed = list(ladder), True  # the rungs from the last one that was reached on
    for link in range(links):
        last, eps = rest[0], thinned(rest, links - link)[min(1, len(rest) - 1)]
        run.fixed = run.opening.without_gradient(run.trials.limit(eps))
        for latent in run.latents if last > _APART * eps or not landed else ():
            latent.halve()
        share = (end - run.trials.spent) / (links - link)
        slowed = run.downhill.slowed()
        downhill = slowed if landed else slowed.eased()
        passed = [value for value in presses if eps <= value < last or value == eps]
        downhill.run(run.latents, run.fixed, eps, share, presses=passed)
        landed = downhill.landed
        if landed:
            rest = rest[rest.index(eps) :]
        yield eps


def outwards(run: Run, eps: float, budget: float) -> None:
    """One link to a coarser ε."""
    run.downhill.pressed(_PRESSED).run(run.latents, run.fixed, eps, budget, presses=[eps])


def thinned(ladder: Sequence[float], links: int) -> list[float]:
    """A ladder of at most so many links, evenly spaced, with the same ends.

    >>> thinned([8, 4, 2, 1], 2), thinned([8, 4], 5)
    ([8, 2, 1], [8, 4])
    """
    most = len(ladder) - 1
    links = min(max(1, links), most)
    return [ladder[round(link * most / links)] for link in range(links + 1)] if links else list(ladder)
