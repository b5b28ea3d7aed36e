"""A chain of descents: each from where the last one ended, to a finer ε, and slides back from there.

A network that was brought to a coarse ε holds little, and what it holds is in order. From there a few gradients lead to the next finer
ε, and the file is often smaller than one that was sought for that ε alone. It lands with more than that ε needs, though: it adds in a hurry.
A slide sheds it: a descent whose own ε moves outwards, so slowly that the network is about as small as it gets at each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nncomplexity.search.run import Run

LINK = 150
"""Evaluations that a link is worth: some forty gradients."""
_APART = 2.5
"""How many times finer the next ε must be for its link to begin with half the steps."""

_PRESSED = 4.0
"""How many times harder a link outwards is pressed than others: it begins far within its ε."""


@dataclass(frozen=True)
class Link:
    """One descent of a chain: the ε that it led to, and the least distortion of what a file may hold on its way."""

    eps: float
    reached: float
    landed: bool


def inwards(
    run: Run,
    ladder: Sequence[float],
    budget: float,
    presses: Sequence[float],
    spare: int = 0,
    *,
    late: float = 1.0,
    near: float = 1.0,
    landed: bool = True,
) -> Iterator[Link]:
    """Links from the first ε of a ladder, where the run has ended, to each of the others, yielding each as it ends.

    A link that misses its ε, which no other can then go on from, is followed by a gentle one with half the steps; rungs are passed over for it.

    Args:
        run: where the chain begins; afterwards, where it ended.
        ladder: ε from coarse to fine.
        budget: evaluations for all links.
        presses: the ε that are to be answered; the end of each link is pressed to those that it passes.
        spare: links beyond one for each ε. Those that no miss has taken lead to the last ε once more.
        late: the share of its steps after which a link that others follow is given up where it has not once been
        near: as near as so many ε.
        landed: whether the run has ended within the first ε; else the first link is a gentle one.
    """
    end, links = run.trials.spent + budget, len(ladder) - 1 + spare
    rest = list(ladder)  # the rungs from the last one that was reached on
    for link in range(links):
        last, eps = rest[0], thinned(rest, links - link)[min(1, len(rest) - 1)]
        run.fixed = run.opening.without_gradient(run.trials.limit(eps))
        if last > _APART * eps or not landed:
            run.halve()
        share = (end - run.trials.spent) / (links - link)
        slowed = run.downhill.slowed()
        downhill = slowed if landed else slowed.eased()
        passed = [value for value in presses if eps <= value < last or value == eps]
        thorough = len(run.trials.kept) == 1
        to_the_end = links - link == 1
        downhill.run(
            run.latents,
            run.fixed,
            eps,
            share,
            late=1.0 if to_the_end else late,
            near=near,
            presses=passed,
            thorough=thorough,
        )
        landed = downhill.reached <= run.trials.limit(eps)
        if landed:
            rest = rest[rest.index(eps) :]
        yield Link(eps, downhill.reached, landed)


def slide(run: Run, eps: float, until: float, budget: float) -> None:
    """One descent from an ε outwards to another, from where the run has ended."""
    run.downhill.sliding().run(run.latents, run.fixed, eps, budget, until=until, presses=[until], thorough=False)


def outwards(run: Run, eps: float, budget: float) -> None:
    """One link to an ε far outside, from where the run has ended."""
    run.downhill.pressed(_PRESSED).run(run.latents, run.fixed, eps, budget, presses=[eps], thorough=False)


def thinned(ladder: Sequence[float], links: int, bend: float = 1.0) -> list[float]:
    """A ladder of at most so many links, with the same ends: of evenly spaced rungs, or closer together at its beginning by a bend above 1.

    >>> thinned([8, 4, 2, 1], 2), thinned([8, 4], 5), thinned([16, 8, 4, 2, 1], 2, bend=2)
    ([8, 2, 1], [8, 4], [16, 8, 1])
    """
    most = len(ladder) - 1
    links = min(max(1, links), most)
    return [ladder[max(link, round((link / links) ** bend * most))] for link in range(links + 1)] if links else list(ladder)
