"""Descents that go on from one another."""

import math
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from nncomplexity.codecs import codec_named
from nncomplexity.network import Distortion
from nncomplexity.search import Problem, Tight, chain, downhill, tensors
from nncomplexity.search.chain import thinned
from nncomplexity.search.descent import Visit
from nncomplexity.search.latent import Latent
from nncomplexity.search.run import Run
from nncomplexity.search.trials import Trials
from tests.cases import two_layers


def latents_of(problem, weights):
    """Dense latents of a quarter's steps at the weights."""
    return [Latent(spec, [weights[spec.name] * 4], math.log(0.25)) for spec in problem.skeleton.tensors]


def test_links_to_a_much_finer_eps_begin_with_half_the_steps(monkeypatch):
    weights, loss = two_layers()
    halved, links = [], []
    monkeypatch.setattr(Latent, "halve", lambda latent, halve=Latent.halve: (halved.append(latent.spec.name), halve(latent)))
    plain = downhill.Downhill.run

    def run(self, latents, fixed, eps, *arguments, **named):
        links.append((eps, len(halved)))
        return plain(self, latents, fixed, eps, *arguments, **named)

    monkeypatch.setattr(downhill.Downhill, "run", run)
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, codec_named("entropy"))
        one = Run(Tight(), Trials(problem, tensors.Tensors(problem), [0.03], 400), 1.0)
        one.latents = latents_of(problem, weights)
        assert [link.eps for link in chain.inwards(one, [1.0, 0.5, 0.1], 200, [0.03])] == [0.5, 0.1]
    assert [eps for eps, _ in links] == [0.5, 0.1]
    assert [count for _, count in links] == [0, 3]


@given(st.integers(1, 20), st.integers(1, 25), st.floats(1, 3))
def test_a_ladder_s_rungs_differ_and_its_ends_stay(most, links, bend):
    ladder = [2.0**-rung for rung in range(most + 1)]
    rungs = thinned(ladder, links, bend)
    assert (rungs[0], rungs[-1]) == (ladder[0], ladder[-1])
    assert len(rungs) == min(links, most) + 1
    assert all(one > other for one, other in pairwise(rungs))
    factors = [one / other for one, other in pairwise(rungs)]
    assert all(2 * later >= earlier for earlier, later in pairwise(factors))


def test_a_chain_that_begins_after_a_miss_begins_gently(monkeypatch):
    weights, loss = two_layers()
    halved, eased = [], []
    monkeypatch.setattr(Latent, "halve", lambda latent, halve=Latent.halve: (halved.append(latent.spec.name), halve(latent)))
    plain = downhill.Downhill.eased
    monkeypatch.setattr(downhill.Downhill, "eased", lambda self: (eased.append(1), plain(self))[1])
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, codec_named("entropy"))
        one = Run(Tight(), Trials(problem, tensors.Tensors(problem), [0.03], 400), 1.0)
        one.latents = latents_of(problem, weights)
        list(chain.inwards(one, [0.06, 0.03], 60, [0.03], landed=False))
    assert (len(halved), len(eased)) == (len(problem.skeleton.tensors), 1)


def test_a_link_that_no_other_follows_is_not_given_up(monkeypatch):
    weights, loss = two_layers()
    lates = []
    plain = downhill.Downhill.run
    monkeypatch.setattr(
        downhill.Downhill,
        "run",
        lambda self, *arguments, **named: (lates.append(named["late"]), plain(self, *arguments, **named))[1],
    )
    with Distortion(weights, loss) as distortion:
        problem = Problem(distortion, codec_named("entropy"))
        one = Run(Tight(), Trials(problem, tensors.Tensors(problem), [0.03], 400), 1.0)
        one.latents = latents_of(problem, weights)
        list(chain.inwards(one, [1.0, 0.5, 0.1], 200, [0.1], spare=1, late=0.6))
    assert lates == [0.6, 0.6, 1.0]


@pytest.mark.parametrize("rise", [0.09, 0.11])
def test_the_only_visit_within_an_eps_without_an_answer_is_weighed(monkeypatch, rise):
    """Also among those of which one in five is."""
    weights = {"w": torch.randn(12, 8, generator=torch.Generator().manual_seed(0))}

    def descend(distortion, latents, *_):
        for done in range(20):
            yield Visit([latents[0].coarse()], distortion.original + (rise if done == 7 else 0.5), stalls=0)

    monkeypatch.setattr(downhill, "descend", descend)
    with Distortion(weights, lambda given: (given["w"] - weights["w"]).square().mean()) as distortion:
        problem = Problem(distortion, codec_named("entropy"))
        trials = Trials(problem, tensors.Tensors(problem), [1.0, 0.1], 600)
        run = Run(Tight(), trials, 0.1)
        latents = latents_of(problem, weights)
        run.downhill.run(latents, {}, 0.1, 300, thorough=False)
    assert bool(trials.kept[0.1]) == (rise < 0.1)
    assert trials.kept[1.0]


@pytest.mark.parametrize(
    ("misses", "spare", "aims", "eased", "halved"),
    [
        ((), 0, [0.5, 0.25, 0.125], [False, False, False], [0, 0, 0]),
        ((), 1, [0.5, 0.25, 0.125, 0.125], [False, False, False, False], [0, 0, 0, 0]),
        ((0,), 1, [0.5, 0.5, 0.25, 0.125], [False, True, False, False], [0, 1, 1, 1]),
        ((1,), 0, [0.5, 0.25, 0.125], [False, False, True], [0, 0, 1]),
        ((2,), 1, [0.5, 0.25, 0.125, 0.125], [False, False, False, True], [0, 0, 0, 1]),
    ],
    ids=["all land", "one to spare", "a rung again", "a rung passed over", "the end again"],
)
def test_a_link_that_misses_is_followed_by_a_gentle_one_with_half_the_steps(monkeypatch, misses, spare, aims, eased, halved):
    """It leads where the missed one led if there are links enough, and further otherwise."""
    weights = {"w": torch.randn(12, 8, generator=torch.Generator().manual_seed(0))}
    aimed, schedules, steps = [], [], []

    def descend(distortion, latents, fixed, eps, count, schedule, *_):
        aimed.append(eps)
        schedules.append(schedule)
        steps.append(latents[0].step)
        rise = 2 * eps if len(aimed) - 1 in misses else 0.5 * eps
        yield Visit([latents[0].coarse()], distortion.original + rise, stalls=0)

    monkeypatch.setattr(downhill, "descend", descend)
    with Distortion(weights, lambda given: (given["w"] - weights["w"]).square().mean()) as distortion:
        problem = Problem(distortion, codec_named("entropy"))
        run = Run(Tight(), Trials(problem, tensors.Tensors(problem), [0.125], 600), 1.0)
        run.latents = latents_of(problem, weights)
        list(chain.inwards(run, [1.0, 0.5, 0.25, 0.125], 500, [0.125], spare))
    assert aimed == aims
    assert [schedule.pressure < 1 for schedule in schedules] == eased
    assert [round(math.log2(0.25 / step)) for step in steps] == halved
    assert all(schedule.rate == pytest.approx(0.2) for schedule in schedules)


def test_a_ladder_is_thinned_evenly():
    assert thinned([6, 5, 4, 3, 2, 1], 5) == [6, 5, 4, 3, 2, 1]
    assert thinned([6, 5, 4, 3, 2, 1], 1) == [6, 1]
    assert thinned([6], 3) == [6]
