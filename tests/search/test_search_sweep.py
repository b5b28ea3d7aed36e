"""What the search for many ε owes its users beyond the contract of all searches: each ε as small as a search for it alone finds."""

import math
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from benchmarks.cases.networks import SHIPPED, find_cases
from nncomplexity import InputError, StopSearch, estimate
from nncomplexity.search import Sweep, Tight, sweep
from nncomplexity.search.chain import Link
from nncomplexity.search.run import Run
from nncomplexity.search.sweep import Way, hull_heights
from nncomplexity.search.tensors import Tensors
from tests.cases import MANY_EPS, two_layers, without_gradient


@pytest.mark.parametrize("hidden", [24, 160], ids=["24 wide", "160 wide"])
@pytest.mark.parametrize("loss_of", [lambda loss: loss, without_gradient], ids=["gradient", "no gradient"])
def test_a_sweep_answers_every_eps(hidden, loss_of):
    weights, loss = two_layers(hidden=hidden, features=28)
    loss = loss_of(loss)
    method = Sweep(Tight(budget=60))
    reports = estimate(weights, loss, MANY_EPS, method=method)
    assert [report.eps for report in reports] == MANY_EPS
    for report in reports:
        decoded = report.coarse_weights()
        assert abs(float(loss(decoded)) - float(loss(weights))) <= report.eps
        assert report.within
    sizes = [report.bits for report in reports]
    assert sizes == sorted(sizes)
    assert sum(report.evaluations for report in reports) <= 2.85 * 60 + len(MANY_EPS)
    again = estimate(weights, loss, MANY_EPS, method=method)
    assert [report.file.content for report in again] == [report.file.content for report in reports]


def test_a_sweep_is_no_larger_than_single_searches_altogether():
    weights, loss = two_layers(hidden=160, features=28)
    sweep = estimate(weights, loss, MANY_EPS, method=Sweep(Tight(budget=200)))
    single = [estimate(weights, loss, eps, budget=200) for eps in MANY_EPS]
    assert sum(report.evaluations for report in sweep) < 0.5 * sum(report.evaluations for report in single)
    assert sum(report.bits for report in sweep) < sum(report.bits for report in single)


@given(
    st.dictionaries(st.floats(1e-4, 10), st.integers(8, 10**6), min_size=1, max_size=12),
    st.one_of(st.floats(0, 100), st.just(math.inf)),
)
def test_no_file_lies_below_the_hull(sizes, nothing):
    heights = hull_heights(sizes, nothing)
    assert list(heights) == list(sizes)
    assert all(sizes[eps] / max(height, 1.0) >= 1 - 1e-9 for eps, height in heights.items())


def test_a_sweep_of_two_is_two_searches():
    weights, loss = two_layers()
    sweep = estimate(weights, loss, [0.3, 0.01], method=Sweep(Tight(budget=40)))
    assert [report.bits for report in sweep] == [report.bits for report in estimate(weights, loss, [0.3, 0.01], budget=40)]


def test_a_sweep_that_is_stopped_has_answers():
    weights, loss = two_layers(hidden=160, features=28)

    def stop(done, total, _what):
        assert total == pytest.approx(2.85 * 100)
        if done > 120:
            raise StopSearch

    reports = estimate(weights, loss, MANY_EPS, method=Sweep(Tight(budget=100)), progress=stop)
    assert sum(report.evaluations for report in reports) < 140
    assert all(report.within for report in reports[:2])


@pytest.mark.parametrize("seed", range(4))
def test_a_sweep_of_a_tiny_network_answers_the_finest_eps(seed):
    """The chain's evaluations leave uniform quantization those that it takes."""
    weights, loss = two_layers(seed, hidden=3, features=3)
    reports = estimate(weights, loss, [1.0, 0.1, 0.01, 0.001, 0.0005], method=Sweep(Tight(budget=100)))
    assert all(report.within for report in reports)


def test_a_sweep_s_cost_is_checked():
    with pytest.raises(InputError, match=r"cost: expected a number of single searches, at least 1, got 0.5"):
        Sweep(cost=0.5)
    with pytest.raises(InputError, match=r"budget: expected a number of loss evaluations, at least 1, got 0"):
        Sweep(Tight(budget=0))


@pytest.mark.parametrize(("seed", "budget"), [(0, 60), (1, 120), (2, 200), (0, 400), (1, 1000)])
def test_a_sweep_begins_as_a_search_for_its_coarsest_eps_does(seed, budget):
    weights, loss = two_layers(seed, hidden=40)
    many = [0.3, 0.1, 0.05, 0.02, 0.01]
    first = estimate(weights, loss, many, method=Sweep(Tight(budget=budget)))[0]
    assert first.bits <= estimate(weights, loss, many[0], budget=budget).bits


@pytest.mark.parametrize("budget", [60, 120, 200])
def test_a_small_budget_is_enough_to_arrive(budget):
    """The chain may not: a search for the finest ε has what is left then."""
    case = next(iter(find_cases(SHIPPED, ["digits/convnet"])))
    many = [float(value) for value in np.geomspace(1, 0.01, 12)]
    found = estimate(case.weights, case.loss_fn, many, method=Sweep(Tight(budget=budget)))
    single = [estimate(case.weights, case.loss_fn, eps, budget=budget) for eps in (many[0], many[6], many[-1])]
    assert found[0].bits <= single[0].bits
    assert all(together.bits < 1.25 * alone.bits for together, alone in zip(found[6::5], single[1:], strict=True))


@pytest.mark.parametrize("reached", [0.9, 1.7, 6.0, 30.0], ids=["landed", "near", "not far", "lost"])
def test_a_chain_that_misses_the_finest_eps_goes_there_once_more_or_leaves_it_to_a_search(monkeypatch, reached):
    weights, loss = two_layers(hidden=40)
    chains, gentle, searched = [], [], []

    def inwards(run, ladder, budget, presses, spare=0, *, landed=True, **_):
        chains.append((ladder, budget))
        gentle.append(not landed)
        yield Link(ladder[-1], reached * ladder[-1], landed=reached <= 1)

    plain = Run.descend
    monkeypatch.setattr(sweep, "inwards", inwards)
    monkeypatch.setattr(Run, "descend", lambda run, until: (searched.append((run.eps, until)), plain(run, until)))
    estimate(weights, loss, MANY_EPS, method=Sweep(Tight(budget=100)))
    assert [ladder[-1] for ladder, _ in chains] == ([0.003, 0.003] if 1 < reached < 10 else [0.003])
    assert gentle == [False, True][: len(chains)]
    assert searched[0] == (0.3, pytest.approx(101))
    if reached > 1:
        assert searched[1:] == [(0.003, pytest.approx(2.85 * 100 - len(MANY_EPS)))]
    else:
        assert searched[1:] == []


def test_slides_lead_from_each_place_to_the_next_and_links_beyond_the_chain(monkeypatch):
    """And the curve is no worse for them."""
    weights, loss = two_layers(hidden=160, features=28)
    many = [3.0, 2.0, 1.0, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003]
    ways, bits = [], []

    def slide(run, eps, until, budget):
        ways.append((eps, until))
        bits.append(run.bits())
        plain[0](run, eps, until, budget)
        bits.append(run.bits())

    def outwards(run, eps, budget):
        ways.append((None, eps))
        plain[1](run, eps, budget)

    plain = sweep.slide, sweep.outwards
    monkeypatch.setattr(sweep, "slide", slide)
    monkeypatch.setattr(sweep, "outwards", outwards)
    with_slides = estimate(weights, loss, many, method=Sweep(Tight(budget=400)))
    slides = [way for way in ways if way[0]]
    assert slides[0][0] == many[-1]
    assert all(begin <= until < after for (begin, until), (after, _) in pairwise(slides))
    assert slides[-1][1] == 0.1  # 0.2 is where the first link has landed
    assert ways[len(slides) :] == [(None, 1.0), (None, 2.0), (None, 3.0)]  # all zeros are 1.4 away
    assert sum(bits[1::2]) < sum(bits[::2])
    monkeypatch.setattr(sweep, "slide", lambda *_: None)
    monkeypatch.setattr(sweep, "outwards", lambda *_: None)
    without = estimate(weights, loss, many, method=Sweep(Tight(budget=400)))
    assert all(report.bits <= other.bits for report, other in zip(with_slides, without, strict=True))
    assert sum(report.bits < other.bits for report, other in zip(with_slides, without, strict=True)) >= 2


def test_of_a_large_network_one_place_is_kept(monkeypatch):
    """Each is as long as the network."""
    weights, loss = two_layers(hidden=40)
    kept = []

    def outwards(self, run, places, *arguments):
        kept.append(list(places))
        plain(self, run, places, *arguments)

    plain = Sweep._outwards
    monkeypatch.setattr(Tensors, "large", True)
    monkeypatch.setattr(Sweep, "_outwards", outwards)
    reports = estimate(weights, loss, MANY_EPS, method=Sweep(Tight(budget=400)))
    assert kept == [[MANY_EPS[-1]]]
    assert all(report.within for report in reports)


def test_a_way_is_as_long_as_what_it_sheds_and_the_eps_on_it():
    # The hull from 800 bits at 0.01 to none at 1 is at 400 bits halfway.
    sizes = {0.01: 800.0, 0.1: 700.0}
    heights = hull_heights(sizes, 1.0)
    assert Way(0.01, [0.1]).length(sizes, heights) == pytest.approx(math.log(2) + 0.1)
    assert Way(0.01, [0.02, 0.05, 0.1]).length(sizes, heights) == pytest.approx(math.log(2) + 0.3)
    assert Way(0.01, [0.5]).length(sizes, heights) == pytest.approx(0.1)  # no file is known there
    small = {0.01: 60.0, 0.1: 50.0}  # what can't be much smaller is not worth more
    assert Way(0.01, [0.1]).length(small, hull_heights(small, 1.0)) == pytest.approx(0.1)


@pytest.mark.parametrize(("budget", "kept"), [(60, 20), (100, 0)])
def test_a_small_budget_keeps_evaluations_for_uniform_quantization(monkeypatch, budget, kept):
    weights, loss = two_layers(hidden=40)
    left = []

    def outwards(self, run, places, *arguments):
        plain(self, run, places, *arguments)
        left.append(run.trials.left)

    plain = Sweep._outwards
    monkeypatch.setattr(Sweep, "_outwards", outwards)
    estimate(weights, loss, MANY_EPS, method=Sweep(Tight(budget=budget)))
    assert kept <= left[0] < kept + 12
