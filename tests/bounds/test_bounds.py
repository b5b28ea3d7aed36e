"""`bound`: it agrees with closed forms, has the promised properties, describes itself in words, and refuses bad arguments."""

import dataclasses
import json
import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomplexity.bounds import (
    KINDS,
    Bound,
    DescriptionLength,
    bound,
    chance_from,
    description_length,
    elias_delta_bits,
    rounded_up,
)
from nncomplexity.bounds.chance import vacuous_from
from nncomplexity.bounds.hoeffding import hoeffding_bound
from nncomplexity.bounds.kinds import paid_bits
from nncomplexity.bounds.occam import most_bits_below
from nncomplexity.bounds.rounding import rounded_up_below
from nncomplexity.errors import InputError

kinds = st.sampled_from(KINDS)
lengths = st.floats(0, 1e6)
risks = st.floats(0, 1)
counts = st.integers(1, 10**7)
deltas = st.floats(1e-12, 1, exclude_max=True)
few = settings(max_examples=60, deadline=None)


def nats(bits: float, n: int, delta: float) -> float:
    return (bits * math.log(2) + math.log(1 / delta)) / n


# --- closed forms ---


def test_hoeffding_is_eq_4_with_bits_times_ln_2() -> None:
    expected = 0.1 + math.sqrt((500 * math.log(2) + math.log(20)) / (2 * 10_000))
    assert bound(500, risk=0.1, n=10_000, delta=0.05, kind="hoeffding", self_delimiting=True).value == pytest.approx(
        expected, rel=1e-14
    )


def test_no_bound_of_hoeffding_is_above_one() -> None:
    assert hoeffding_bound(0.9, 5.0) == 1.0


def test_paper_pays_twice_the_logarithm_of_the_length() -> None:
    expected = 0.1 + math.sqrt((500 * math.log(2) + 2 * math.log(500) + math.log(20)) / (2 * 10_000))
    assert bound(500, risk=0.1, n=10_000, delta=0.05, kind="paper").value == pytest.approx(expected, rel=1e-14)


def test_paper_takes_no_logarithm_below_one_bit_which_is_the_least_that_it_pays() -> None:
    assert [bound(bits, risk=0.1, n=100, kind="paper").paid_bits for bits in (0, 0.25, 1, 2)] == [1, 1, 1, 4]


def test_the_range_of_the_loss_multiplies_the_root() -> None:
    root = math.sqrt(nats(500, 10_000, 0.05) / 2)
    result = bound(500, risk=1.0, n=10_000, kind="hoeffding", range=(-1.0, 6.0), chance=6.0, self_delimiting=True)
    assert result.value == pytest.approx(1.0 + 7 * root, rel=1e-14)


def test_kl_without_errors_is_one_minus_an_exponential() -> None:
    assert bound(800, risk=0, n=2553, self_delimiting=True).value == pytest.approx(1 - math.exp(-nats(800, 2553, 0.05)), rel=1e-14)


def test_kl_is_the_default_at_delta_one_in_twenty() -> None:
    assert bound(800, risk=0.1, n=2553) == bound(800, risk=0.1, n=2553, kind="kl", delta=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("top", "risk"), [(1.0, 0.02), (4.7, 0.0)])
def test_the_value_is_clipped_at_the_top_of_the_range(kind: Any, top: float, risk: float) -> None:
    assert bound(1e9, risk=risk, n=10, kind=kind, range=(0, top)).value == top


def test_the_clip_reaches_a_top_that_scaling_would_round_away() -> None:
    low, high = 0.2, 0.9
    assert low + (high - low) * 1.0 != high
    result = bound(1e9, risk=0.3, n=10, range=(low, high))
    assert result.value == high
    assert result.vacuous


def test_the_best_of_two_kinds_shares_delta() -> None:
    halves = [bound(500, risk=0.2, n=5000, delta=0.02, kind=kind).value for kind in ("kl", "hoeffding")]
    assert bound(500, risk=0.2, n=5000, delta=0.04, kind="best").value == pytest.approx(min(halves), rel=1e-12)


def test_the_length_is_paid_for_where_the_payload_does_not_tell_its_end() -> None:
    told = bound(8000 + elias_delta_bits(1001), risk=0.1, n=50_000, self_delimiting=True)
    paid = bound(8000, risk=0.1, n=50_000)
    assert paid == bound(8000, risk=0.1, n=50_000, self_delimiting=False)
    assert paid.value == told.value
    assert (paid.bits, paid.paid_bits) == (8000, 8016)


def test_paper_never_pays_for_the_length_twice() -> None:
    result = bound(1024, risk=0.1, n=5000, kind="paper", self_delimiting=False)
    assert result == bound(1024, risk=0.1, n=5000, kind="paper")


def test_choices_outside_the_file_are_paid_in_bits() -> None:
    chosen = bound(100, risk=0.1, n=500, side_bits=5, self_delimiting=True)
    assert chosen.value == bound(105, risk=0.1, n=500, self_delimiting=True).value
    assert chosen.paid_bits == 105


def test_the_paper_price_covers_all_files_of_whole_bytes() -> None:
    # 2^(8m) files of m bytes, each with the weight 2^(−8m)·(8m)^(−2).
    weights = [2.0 ** (8 * m - paid_bits("paper", 8.0 * m)) for m in range(100_000)]
    assert math.fsum(weights) == pytest.approx(0.5 + math.pi**2 / 384, rel=1e-4)


# --- properties ---


@few
@given(kind=kinds, bits=lengths, more=lengths, risk=risks, n=counts, delta=deltas)
def test_more_bits_never_lower_the_bound(kind: Any, bits: float, more: float, risk: float, n: int, delta: float) -> None:
    fewer = bound(bits, risk=risk, n=n, delta=delta, kind=kind)
    assert risk <= fewer.value <= bound(bits + more, risk=risk, n=n, delta=delta, kind=kind).value


@few
@given(kind=kinds, bits=lengths, risk=risks, other=risks, n=counts, delta=deltas)
def test_more_risk_never_lowers_the_bound(kind: Any, bits: float, risk: float, other: float, n: int, delta: float) -> None:
    low, high = (bound(bits, risk=r, n=n, delta=delta, kind=kind) for r in sorted((risk, other)))
    assert low.value <= high.value + 1e-12


@few
@given(kind=kinds, bits=lengths, risk=risks, n=counts, more=counts, delta=deltas, other=deltas)
def test_more_examples_or_more_risk_of_failure_never_raise_the_bound(
    kind: Any, bits: float, risk: float, n: int, more: int, delta: float, other: float
) -> None:
    strict, lax = sorted((delta, other))
    value = bound(bits, risk=risk, n=n, delta=strict, kind=kind).value
    assert bound(bits, risk=risk, n=n + more, delta=strict, kind=kind).value <= value
    assert bound(bits, risk=risk, n=n, delta=lax, kind=kind).value <= value


@few
@given(bits=lengths, risk=risks, n=counts, delta=deltas)
def test_kl_then_hoeffding_then_the_paper(bits: float, risk: float, n: int, delta: float) -> None:
    values = {kind: bound(bits, risk=risk, n=n, delta=delta, kind=kind, self_delimiting=True).value for kind in KINDS}
    assert values["kl"] <= values["hoeffding"] <= values["paper"]
    assert values["kl"] <= values["best"]


@few
@given(kind=kinds, bits=lengths, risk=risks, n=counts, low=st.floats(-10, 10), width=st.floats(0.1, 100))
def test_the_bound_moves_and_scales_with_the_loss(kind: Any, bits: float, risk: float, n: int, low: float, width: float) -> None:
    high = low + width
    unit = bound(bits, risk=risk, n=n, kind=kind)
    moved = bound(bits, risk=min(high, low + width * risk), n=n, kind=kind, range=(low, high), chance=high)
    assert moved.value == pytest.approx(low + width * unit.value, abs=1e-6 * width)


# --- vacuous or not, and how many bits it takes ---


@few
@given(
    kind=kinds,
    bits=lengths,
    risk=risks,
    n=counts,
    chance=st.floats(0.01, 1),
    self_delimiting=st.booleans(),
    side_bits=st.floats(0, 50),
)
def test_the_bits_needed_are_where_the_bound_meets_chance(
    kind: Any, bits: float, risk: float, n: int, chance: float, self_delimiting: bool, side_bits: float
) -> None:
    def at(k: float) -> Bound:
        return bound(k, risk=risk, n=n, kind=kind, chance=chance, self_delimiting=self_delimiting, side_bits=side_bits)

    result = at(bits)
    assert result.vacuous == (result.value >= chance - min(0.001, chance / 10))
    needed = result.bits_needed
    if needed is None:
        assert at(0).vacuous
    else:
        assert result.vacuous == (bits > needed)
        assert not at(needed).vacuous
        assert at(needed * (1 + 1e-12) + 1e-12).vacuous


@pytest.mark.parametrize("kind", ["kl", "hoeffding"])
def test_the_bits_needed_agree_with_the_inverted_formula(kind: Any) -> None:
    risk, n, delta, chance = 0.1, 2553, 0.05, 112 / 113
    cost = (
        risk * math.log(risk / chance) + (1 - risk) * math.log((1 - risk) / (1 - chance))
        if kind == "kl"
        else 2 * (chance - risk) ** 2
    )
    needed = bound(10**6, risk=risk, n=n, delta=delta, kind=kind, chance=chance + 0.001, self_delimiting=True).bits_needed
    assert needed == pytest.approx((n * cost - math.log(1 / delta)) / math.log(2), rel=1e-9)


def test_no_bits_help_where_the_risk_is_chance() -> None:
    result = bound(10, risk=0.5, n=10**6, chance=0.5)
    assert result.vacuous
    assert result.bits_needed is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_for_the_bits_ends_for_the_largest_samples(kind: Any) -> None:
    needed = bound(1e300, risk=0.25, n=2**53, kind=kind).bits_needed
    assert needed is not None
    assert 2**50 < needed < 2**60


@pytest.mark.parametrize(("limits", "expected"), [((0, 1), 1), ((0, 4.7), 1), ((0, 0.5), 0.5), ((2, 5), 5), ((1, 3), 3)])
def test_chance_is_one_unless_given_or_outside_the_range(limits: tuple[float, float], expected: float) -> None:
    assert bound(10, risk=limits[0], n=100, range=limits).chance == expected


def test_most_bits_below_stays_below_a_limit_that_a_power_of_two_meets() -> None:
    assert most_bits_below(lambda k: k / 4, 4.0) == math.nextafter(16.0, 0.0)


def test_most_bits_below_is_none_where_zero_bits_are_too_many() -> None:
    assert most_bits_below(lambda k: 1 + k, 1.0) is None


# --- words ---


def test_a_bound_that_is_not_vacuous_says_so() -> None:
    text = bound(16_000, risk=0.0, n=2553, chance=112 / 113, self_delimiting=True).sentence()
    assert text.startswith("Not vacuous: with probability 0.95 the risk on unseen data is at most 0.987032, below chance")
    assert "It stays so up to 17,013 bits." in text


def test_a_vacuous_bound_says_so_and_how_many_bits_it_takes() -> None:
    text = bound(24_000, risk=0.0, n=2553, chance=112 / 113, self_delimiting=True).sentence()
    assert text.startswith("Vacuous: ")
    assert "no better than chance (0.99115)" in text
    assert "With 17,013 bits or fewer it would not be vacuous." in text


def test_a_bound_that_no_bits_can_help_says_so() -> None:
    assert "No number of bits would change that" in bound(1, risk=0.9, n=3, chance=0.5).sentence()


def test_the_top_of_the_range_is_not_called_chance() -> None:
    assert "below the worst possible (1)" in bound(100, risk=0.1, n=2553).sentence()


@few
@given(
    kind=kinds, bits=lengths, risk=risks, n=counts, chance=st.floats(0.01, 1), low=st.floats(-10, 10), width=st.floats(0.01, 100)
)
def test_within_a_thousandth_of_chance_is_vacuous_and_no_number_is_shown_smaller_than_it_is(
    kind: Any, bits: float, risk: float, n: int, chance: float, low: float, width: float
) -> None:
    limits, unit = (low, low + width), width / 1000
    top = min(low + width, low + chance * width)
    result = bound(bits, risk=min(low + width, low + risk * width), n=n, kind=kind, range=limits, chance=top)
    word, shown = re.match(r"(Vacuous|Not vacuous): .* at most (\S+), ", result.sentence()).groups()
    assert (word == "Vacuous") == result.vacuous
    assert float(shown) >= float(f"{result.value:.15g}") - 1e-12
    if result.value >= top - 0.999 * unit:
        assert word == "Vacuous"
    if word == "Not vacuous":
        assert float(shown) < top


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chance", [1.0, 112 / 113, 0.9, 0.5, 0.02])
def test_the_least_vacuous_value_is_a_thousandth_below_chance(kind: Any, chance: float) -> None:
    needed = bound(0, risk=0.0, n=25_530, kind=kind, chance=chance).bits_needed
    assert needed is not None
    values = [bound(bits, risk=0.0, n=25_530, kind=kind, chance=chance) for bits in (needed, needed + 1e-6)]
    assert [one.vacuous for one in values] == [False, True]
    assert [one.value for one in values] == pytest.approx([chance - 0.001] * 2, abs=1e-7)


def test_a_memorised_network_does_not_get_the_word() -> None:
    """Such a bound was once called not vacuous, and rounded to 1."""
    text = bound(58_840, risk=0.249, n=2553, self_delimiting=False).sentence()
    assert text.startswith("Vacuous: ")
    assert "at most 1, no better than the worst possible (1)" in text


def test_a_rare_error_can_be_bounded_by_less_than_a_thousandth() -> None:
    assert vacuous_from(0.0005) == pytest.approx(0.00045)
    assert not bound(100, risk=0.0, n=10**6, chance=0.0005).vacuous


@few
@given(value=st.floats(1e-9, 1e9), digits=st.integers(1, 12))
def test_rounding_is_upwards_and_by_less_than_one_digit(value: float, digits: int) -> None:
    exact, shown = Fraction(repr(value)), Fraction(rounded_up(value, digits))
    assert exact <= shown
    assert shown - exact < Fraction(10) ** (math.floor(math.log10(value)) - digits + 2)


def test_more_digits_are_for_a_limit_above_the_value_alone() -> None:
    assert rounded_up_below(0.123456, 0.123456, digits=3) == rounded_up(0.123456, 3) == "0.124"
    assert rounded_up_below(0.123456, 0.1239, digits=3) == "0.1235"


def test_what_has_few_digits_stays_as_it_is() -> None:
    assert [rounded_up(value) for value in (0.0, 1.0, 0.9, 0.1 + 0.2, 1 / 3, 12345678.0, math.inf)] == [
        *("0", "1", "0.9", "0.300001", "0.333334", "1.23457e+07", "inf")
    ]
    assert rounded_up_below(1.0, 1.0) == "1"


# --- a constant answer ---


def test_a_constant_answer_stands_beside_the_bound() -> None:
    result = bound(800, risk=0.05, n=2553, chance=0.9, constant_risk=0.88, self_delimiting=False)
    assert result.constant_bound == bound(0, risk=0.88, n=2553, self_delimiting=False).value
    assert "A constant answer takes 0 bits: risk 0.88 on the examples, at most 0.896733 on unseen data." in result.sentence()
    assert "no better than." not in result.sentence()


def test_a_file_that_a_constant_answer_beats_says_so() -> None:
    """Nine of ten examples are of one class, so a constant answer is wrong for a tenth of them."""
    result = bound(2_000, risk=0.02, n=2553, chance=0.9, constant_risk=0.1)
    assert not result.vacuous
    assert result.constant_bound < result.value
    assert f"at most {rounded_up(result.constant_bound)} on unseen data; this file is no better." in result.sentence()


def test_a_constant_answer_is_at_chance_where_nothing_else_is_known() -> None:
    assert bound(100, risk=0.1, n=500, chance=0.9).constant_bound == 0.9
    assert "A constant answer takes 0 bits, and is at chance." in bound(100, risk=0.1, n=500, chance=0.9).sentence()
    assert (
        "This does not say whether the file is better than a guess; give the risk of a guess as chance."
        in bound(100, risk=0.1, n=500).sentence()
    )


def test_chance_is_told_by_classes() -> None:
    names = ("--chance", "--classes")
    assert [chance_from(*given, names) for given in ((None, None), (0.25, None), (None, 113))] == [None, 0.25, 112 / 113]
    for wrong, words in (
        ((0.5, 2), "--classes: expected only this or --chance, got both; leave one out"),
        ((None, 1), "--classes: expected a whole number of classes from 2"),
        ((math.nan, None), "--chance: expected the risk of a guess, such as 0.9"),
    ):
        with pytest.raises(InputError, match=words):
            chance_from(*wrong, names)


def test_the_sentence_is_one_line() -> None:
    assert "\n" not in bound(100, risk=0.1, n=2553).sentence()


@pytest.mark.parametrize(("bits", "risk"), [(100, 0.1), (10**9, 0.1), (10**9, 1.0)])
def test_the_dict_is_json_without_infinities(bits: float, risk: float) -> None:
    result = bound(bits, risk=risk, n=2553, delta=0.01, kind="hoeffding")
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored == {key: getattr(result, key) for key in stored}
    assert list(stored) == [
        *("risk", "n", "delta", "kind", "value", "vacuous", "chance", "bits_needed", "constant_risk", "constant_bound")
    ]


def test_a_bound_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound(100, risk=0.1, n=2553).value = 0.0  # type: ignore[misc]


# --- description length ---


@few
@given(bits=lengths, loss=st.floats(0, 20), n=counts)
def test_description_length_adds_model_and_data(bits: float, loss: float, n: int) -> None:
    length = description_length(bits, loss=loss, n=n)
    assert length.total_bits == length.model_bits + length.data_bits
    assert length.data_bits == pytest.approx(-n * math.log2(math.exp(-loss)), rel=1e-9, abs=1e-6)
    assert length.model_bits == bits


def test_the_uniform_prediction_takes_log2_of_the_classes_per_example() -> None:
    length = description_length(0, loss=math.log(8), n=100)
    assert length.total_bits == pytest.approx(300, rel=1e-14)


def test_the_least_total_is_the_mdl_choice() -> None:
    lengths = {eps: description_length(k, loss=eps, n=1000) for eps, k in ((0.01, 9000), (0.1, 4000), (4.0, 100))}
    assert min(lengths, key=lambda eps: lengths[eps].total_bits) == 0.1
    assert isinstance(lengths[0.1], DescriptionLength)


# --- arguments ---


@pytest.mark.parametrize("wrap", [float, np.float64, np.float32, torch.tensor])
def test_numbers_of_any_library_are_taken(wrap: Any) -> None:
    given = {"risk": wrap(0.25), "n": np.int64(1000), "delta": wrap(0.0625), "chance": wrap(0.5), "constant_risk": wrap(0.5)}
    result = bound(wrap(128.0), **given)
    assert result == bound(128, risk=0.25, n=1000, delta=0.0625, chance=0.5, constant_risk=0.5)
    assert all(type(value) in (int, float, str, bool) for value in result.to_dict().values())


BITS = r": expected a finite number of bits >= 0, such as report\.bits, got "
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bits": -1}, "^bits" + BITS + r"-1$"),
    ({"bits": math.nan}, "^bits" + BITS + "nan$"),
    ({"bits": math.inf}, "^bits" + BITS + "inf$"),
    ({"bits": "12"}, "^bits" + BITS + "'12'$"),
    ({"bits": True}, "^bits" + BITS + "True$"),
    ({"bits": None}, "^bits" + BITS + "None$"),
    ({"bits": 10**400}, "^bits" + BITS + r"1000.*\.\.\.$"),
    ({"bits": 10**5000}, "^bits" + BITS + "int too long to print$"),
    ({"bits": torch.zeros(2, 2)}, "^bits" + BITS + "tensor"),
    ({"side_bits": -1}, "^side_bits" + BITS + r"-1$"),
    ({"n": 0}, r"^n: expected a whole number of examples from 1 to 2\*\*53, got 0$"),
    ({"n": 10.0}, r"^n: expected a whole number of examples from 1 to 2\*\*53, got 10\.0$"),
    ({"n": True}, "^n: expected a whole number of examples"),
    ({"n": 2**53 + 1}, "^n: expected a whole number of examples"),
    ({"delta": 0}, r"^delta: expected a failure probability strictly between 0 and 1, such as 0\.05, got 0$"),
    ({"delta": 1}, "^delta: expected a failure probability"),
    ({"delta": math.nan}, "^delta: expected a failure probability"),
    ({"risk": 1.01}, r"^risk: expected a mean loss within the range \(0, 1\); .* give its range=, got 1\.01$"),
    ({"risk": -0.1}, r"^risk: expected a mean loss within the range \(0, 1\)"),
    ({"risk": math.nan}, "^risk: expected a mean loss"),
    ({"constant_risk": 1.01}, r"^constant_risk: expected a mean loss within the range \(0, 1\)"),
    ({"range": (1, 0)}, r"^range: expected a pair \(low, high\) with low < high, .*, got \(1\.0, 0\.0\)$"),
    ({"range": (0, 0)}, r"^range: expected a pair \(low, high\) with low < high"),
    ({"range": (-1e308, 1e308)}, r"^range: expected a pair \(low, high\)"),
    ({"range": 5}, r"^range: expected a pair \(low, high\).*, got 5$"),
    ({"range": (0, 1, 2)}, r"^range: expected a pair \(low, high\)"),
    ({"range": (0, math.inf)}, r"^range\[1\]: expected a finite number, got inf$"),
    ({"range": ("a", 1)}, r"^range\[0\]: expected a finite number, got 'a'$"),
    ({"chance": 0}, r"^chance: expected a risk above 0 and at most 1, the ends of the range, got 0$"),
    ({"chance": 1.5}, "^chance: expected a risk above 0 and at most 1"),
    ({"kind": "pac"}, "^kind: expected one of kl, hoeffding, paper, best, got 'pac'$"),
    ({"kind": ["kl"]}, "^kind: expected one of kl, hoeffding, paper, best, got "),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_argument_is_named_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        bound(**{"bits": 100, "risk": 0.1, "n": 1000, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": -0.1}, r"^loss: expected a mean cross-entropy in nats per example, finite and >= 0, got -0\.1$"),
        ({"loss": math.nan}, "^loss: expected a mean cross-entropy"),
        ({"loss": "low"}, "^loss: expected a mean cross-entropy"),
        ({"bits": -1}, "^bits: expected"),
        ({"n": 0}, "^n: expected"),
    ],
)
def test_description_length_refuses_what_has_no_length(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        description_length(**{"bits": 100, "loss": 0.1, "n": 1000, **wrong})
