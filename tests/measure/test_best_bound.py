"""The smallest bound of all files of a search: it is no larger than the curve's. The original's bound and the holdout's are given too."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from nncomplexity import Divergence
from nncomplexity.bounds import binomial_upper_limit, holdout_bound
from nncomplexity.errors import InputError
from nncomplexity.measure import BestBound, best_bound, rate_distortion

N = 600
TEACHER = torch.randn(3, 8, generator=torch.Generator().manual_seed(5))


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return x, (x @ TEACHER.T).argmax(1)


X, Y = drawn(N, 1)


def outputs(weights: Any, x: Tensor) -> Tensor:
    return x @ weights["w"].T


def loss(weights: Any) -> Tensor:
    return cross_entropy(outputs(weights, X), Y)


def error(weights: Any) -> float:
    return float((outputs(weights, X).argmax(1) != Y).double().mean())


def network() -> dict[str, Tensor]:
    return {"w": 3 * TEACHER + 0.05 * torch.randn(3, 8, generator=torch.Generator().manual_seed(6))}


EPS = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02]


def test_it_is_no_worse_than_any_eps_of_the_curve() -> None:
    curve = rate_distortion(network(), loss, EPS, risk=error, n=N, budget=60)
    found = best_bound(network(), loss, risk=error, n=N, eps=EPS, budget=60)
    assert curve.best_bound is not None
    assert found.value == curve.best_bound[1].value
    assert found.bound.risk == error(found.report.coarse_weights())
    assert found.bound.value == found.report.bound(risk=found.bound.risk, n=N).value
    assert sum(report.evaluations for report in curve.reports) >= found.report.evaluations
    assert found.tried <= len(EPS)


def test_files_that_cannot_be_better_are_not_measured() -> None:
    calls: list[int] = []

    def counted(weights: Any) -> float:
        calls.append(1)
        return error(weights)

    found = best_bound(network(), loss, risk=counted, n=N, eps=EPS, budget=60)
    assert len(calls) == 2 + found.tried  # first the measurements of the original and of a constant answer
    assert found.bound.constant_risk is not None


def test_the_originals_bound_and_the_holdouts() -> None:
    fresh, _ = drawn(400, 2)
    test = drawn(300, 3)
    found = best_bound(network(), loss, risk=error, n=N, eps=EPS, budget=60, outputs=outputs, unlabelled=fresh, holdout=test)
    assert found.original is not None
    assert found.original_report is not None
    coarse = found.original_report.coarse_weights()
    differ = int((outputs(coarse, fresh).argmax(1) != outputs(network(), fresh).argmax(1)).sum())
    assert (found.original.disagreements, found.original.m) == (differ, 400)
    assert found.original.limit == pytest.approx(binomial_upper_limit(differ, 400, 0.045), rel=1e-12)
    assert found.original.decoded.risk == error(coarse)
    wrong = int((outputs(network(), test[0]).argmax(1) != test[1]).sum())
    assert found.holdout == holdout_bound(wrong, 300)
    most = int(torch.bincount(test[1]).max())
    assert found.bound.chance == pytest.approx(1 - most / 300)
    sentence = found.sentence()
    assert sentence.startswith("With probability at least 0.95 over the draw of 600 training examples and 400 unlabelled inputs")
    assert "if all were drawn independently from one distribution" in sentence
    assert "labelled examples kept out of training" in sentence
    document = found.to_dict()
    assert document["original"]["disagreements"] == differ
    assert document["holdout"]["n"] == 300


def test_a_module_is_shown_to_the_risk_as_to_the_loss_and_left_as_it_was() -> None:
    model = nn.Linear(8, 3, bias=False)
    model.load_state_dict({"weight": network()["w"]})
    before = model.weight.detach().clone()
    seen: list[type] = []

    def risk(module: nn.Module) -> float:
        seen.append(type(module))
        return float((module(X).argmax(1) != Y).double().mean())

    found = best_bound(model, lambda module: cross_entropy(module(X), Y), risk=risk, n=N, eps=EPS, budget=60)
    alone = best_bound(network(), loss, risk=error, n=N, eps=EPS, budget=60)
    assert set(seen) == {nn.Linear}
    assert torch.equal(model.weight, before)
    assert found.value == pytest.approx(alone.value, abs=0.1)


def test_a_holdout_as_a_function_and_as_a_loader() -> None:
    x, y = drawn(300, 3)
    wrong = holdout_bound(int((outputs(network(), x).argmax(1) != y).sum()), 300)
    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "budget": 30}
    by_function = best_bound(network(), loss, holdout=lambda w: outputs(w, x).argmax(1) != y, **options)
    loader = DataLoader(TensorDataset(x, y), batch_size=64)
    by_loader = best_bound(network(), loss, holdout=loader, outputs=outputs, **options)
    assert by_function.holdout == by_loader.holdout == wrong
    assert (by_function.bound.chance, by_loader.bound.chance < 1) == (1.0, True)


def test_chance_comes_from_the_labels_that_are_at_hand() -> None:
    def most_frequent(labels: Tensor) -> float:
        return pytest.approx(1 - int(torch.bincount(labels).max()) / len(labels))

    (x, y), test, labelled = drawn(90, 4), drawn(70, 3), drawn(80, 2)
    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "budget": 20, "outputs": outputs}
    divergence = Divergence(outputs, (x, y), probe=0)

    def chance(loss_fn: Any, **more: Any) -> tuple[float, str | None]:
        found = best_bound(network(), loss_fn, **options, **more)
        return found.bound.chance, found.chance_from

    assert chance(loss) == (1.0, None)
    assert chance(loss, unlabelled=labelled) == (most_frequent(labelled[1]), "unlabelled")
    assert chance(divergence, unlabelled=labelled) == (most_frequent(y), "inputs")
    assert chance(loss, faithfulness=divergence) == (most_frequent(y), "inputs")
    assert chance(divergence, holdout=test) == (most_frequent(test[1]), "holdout")
    assert chance(divergence, holdout=test, chance=0.5) == (0.5, None)
    assert chance(loss, unlabelled=(x, torch.zeros(90, dtype=torch.int64))) == (1.0, None)


def test_tokens_that_do_not_count_are_neither_errors_nor_disagreements() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    # The loss doesn't depend on the padding's row of the embedding, so a file gives other answers there.
    table[0] = torch.tensor([0.0, 0.0, 0.0, 0.1, 0.2])
    weights = {"table": table}

    def texts(lengths: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
        ids = torch.randint(1, 9, mask.shape, generator=generator) * mask
        return {"input_ids": ids, "attention_mask": mask}, torch.where(mask.bool(), table[ids].argmax(-1), -100)

    def loss(w: Any) -> Tensor:  # of all words except the padding
        return cross_entropy(w["table"][1:], table[1:].argmax(-1))

    def risk(w: Any) -> float:
        return float((w["table"][1:].argmax(-1) != table[1:].argmax(-1)).double().mean())

    batches = [texts([3, 1, 2]), texts([5, 4])]  # batches of different lengths
    words = torch.cat([labels[labels >= 0] for _, labels in batches])
    found = best_bound(
        weights,
        loss,
        risk=risk,
        n=200,
        eps=[0.5],
        budget=40,
        outputs=lambda w, given: w["table"][given["input_ids"]],
        unlabelled=batches,
        holdout=batches,
    )
    assert found.holdout is not None
    assert (found.holdout.errors, found.holdout.n) == (0, 5)
    assert found.original is not None
    assert found.original_report is not None
    decoded = found.original_report.coarse_weights()["table"]
    changed = decoded.argmax(-1) != table.argmax(-1)
    assert bool(changed[0])
    texts_changed = [bool(changed[ids[mask.bool()]].any()) for each, _ in batches for ids, mask in zip(*each.values(), strict=True)]
    assert found.original.disagreements == sum(texts_changed)
    assert found.bound.chance == pytest.approx(1 - int(torch.bincount(words).max()) / len(words))


def test_answers_of_one_logit_are_its_side() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    w = {"w": torch.tensor([2.0, -1.0, 0.5, 0.1])}
    y = (x @ w["w"] > 0).long()
    found = best_bound(
        w,
        lambda v: nn.functional.binary_cross_entropy_with_logits(x @ v["w"], y.float()),
        risk=lambda v: float(((x @ v["w"] > 0) != y).double().mean()),
        n=200,
        eps=[0.3, 0.1],
        budget=30,
        outputs=lambda v, inputs: inputs @ v["w"],
        unlabelled=x,
        holdout=(x, y),
    )
    assert found.holdout is not None
    assert found.holdout.errors == 0
    assert found.original is not None
    assert 0 <= found.original.disagreements <= 200


def test_without_anything_to_say_it_says_so() -> None:
    noise = torch.randint(3, (N,), generator=torch.Generator().manual_seed(9))
    found = best_bound(
        network(),
        loss,
        risk=lambda w: float((outputs(w, X).argmax(1) != noise).double().mean()),
        n=N,
        chance=0.6,
        eps=EPS,
        budget=30,
    )
    assert found.bound.vacuous
    assert "which is vacuous (chance is 0.6)" in found.sentence()


def test_the_bound_holds_on_as_many_draws_as_it_promises() -> None:
    # Six trainings by class means on few examples, and a search for each: the true risk is never above the bound.
    big_x, big_y = drawn(20_000, 99)
    for seed in range(6):
        x, y = drawn(80, 100 + seed)
        w = {"w": torch.stack([x[y == c].mean(0) for c in range(3)])}

        def risk(v: Any, x: Tensor = x, y: Tensor = y) -> float:
            return float((outputs(v, x).argmax(1) != y).double().mean())

        def fit(v: Any, x: Tensor = x, y: Tensor = y) -> Tensor:
            return cross_entropy(outputs(v, x), y)

        found = best_bound(
            w, fit, risk=risk, n=80, eps=[0.3, 0.1], budget=30, outputs=outputs, unlabelled=drawn(100, 200 + seed)[0]
        )
        assert found.original is not None
        decoded, original = (
            float((outputs(v, big_x).argmax(1) != big_y).double().mean()) for v in (found.report.coarse_weights(), w)
        )
        assert decoded <= found.value
        assert original <= found.original.value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"risk": 3}, "risk: expected a function"),
        ({"risk": lambda w: 1.5}, r"risk: expected the share of wrong answers, in \[0, 1\], got 1.5"),
        ({"risk": lambda w: 1 / 0}, "risk: it raised ZeroDivisionError"),
        ({"unlabelled": X}, "outputs: expected a function of a network and inputs, to compare the answers of two networks"),
        ({"holdout": (X, Y)}, "outputs: expected a function of a network and inputs, to compute answers on the holdout"),
        ({"holdout": X, "outputs": outputs}, "holdout: expected pairs of inputs and labels of whole numbers, got inputs alone"),
        ({"holdout": (X, torch.zeros(N, 2).long()), "outputs": outputs}, "holdout: expected a label for each answer"),
        ({"holdout": lambda w: outputs(w, X)}, "holdout: expected a truth value for each labelled example"),
        ({"unlabelled": X, "outputs": lambda w, x: w["w"][:2]}, "outputs: expected a tensor with a row for each of 600 inputs"),
        ({"n": 0}, "n: expected a whole number of examples"),
        ({"holdout": (X, Y + 1), "outputs": outputs}, "holdout: expected classes from 0 to 2, .*, got numbers from 1 to 3"),
        ({"holdout": (X, Y - 1), "outputs": outputs}, "holdout: expected classes from 0 to 2, .*, got numbers from -1 to 1"),
        (
            {"holdout": (X, torch.where(Y == 0, -100, Y)), "outputs": outputs},
            r"holdout: expected a label for each example, got -100, which means none, for \d+; leave them out",
        ),
        ({"unlabelled": X, "outputs": lambda w, x: outputs(w, x) * math.nan}, "outputs: expected real numbers .*, got NaN"),
        ({"unlabelled": X, "outputs": lambda w, x: outputs(w, x) + 0j}, "outputs: expected real numbers .*, got complex ones"),
        (
            {"unlabelled": X, "outputs": lambda w, x: outputs(w, x)[:, 0].sigmoid()},
            r"outputs: expected logits, whose sign is the answer, got numbers from 0 to 1 alone, .* `probability > 0\.5`",
        ),
    ],
)
def test_arguments_that_are_unusable_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        best_bound(network(), loss, **{"risk": error, "n": N, "eps": [0.5], "budget": 20, **options})


@pytest.mark.parametrize(
    "answers",
    [lambda w, x: outputs(w, x).argmax(1), lambda w, x: outputs(w, x).softmax(1), lambda w, x: outputs(w, x).argmax(1)[:, None]],
)
def test_answers_are_as_good_as_logits(answers: Any) -> None:
    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "method": "quantize", "unlabelled": drawn(300, 8)[0]}
    of_logits, found = (best_bound(network(), loss, outputs=one, holdout=(X, Y), **options) for one in (outputs, answers))
    assert of_logits.original is not None
    assert of_logits.original.disagreements > 0
    assert (found.original, found.holdout) == (of_logits.original, of_logits.holdout)


def test_truth_values_and_signs_are_the_same_answers() -> None:
    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "method": "quantize", "holdout": (X, (Y == 0).long())}

    def score(weights: Any, x: Tensor) -> Tensor:
        logits = outputs(weights, x)
        return logits[:, 0] - logits[:, 1:].max(1).values

    by_sign = best_bound(network(), loss, outputs=score, **options)
    assert by_sign.holdout == best_bound(network(), loss, outputs=lambda w, x: score(w, x) > 0, **options).holdout


def test_a_decoded_network_whose_outputs_are_no_numbers_disagrees() -> None:
    original = network()

    def broken(weights: Any, x: Tensor) -> Tensor:
        return outputs(weights, x) if torch.equal(weights["w"], original["w"]) else outputs(weights, x) * math.nan

    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "method": "quantize", "unlabelled": drawn(50, 8)[0]}
    found = best_bound(original, loss, outputs=broken, **options)
    assert found.original is not None
    assert found.original.disagreements == 50


def test_tokens_without_a_label_are_no_errors() -> None:
    x, y = drawn(40, 8)[0].reshape(20, 2, 8), drawn(40, 8)[1].reshape(20, 2)
    right = torch.stack([y[:, 0], torch.full((20,), -100)], 1)
    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "method": "quantize", "outputs": outputs}
    found = best_bound(network(), loss, holdout=(x, right), **options)
    assert found.holdout == best_bound(network(), loss, holdout=(x[:, 0], y[:, 0]), **options).holdout
    assert found.bound.chance == best_bound(network(), loss, holdout=(x[:, 0], y[:, 0]), **options).bound.chance


def test_the_sentence_rounds_upwards() -> None:
    found = best_bound(network(), loss, risk=error, n=N, eps=[0.5], budget=20)
    said = float(found.sentence().split("at a rate of at most ")[1].split(" ")[0])
    assert found.value <= said <= min(1.0, found.value + 0.0011)
    assert isinstance(found, BestBound)
    assert not math.isnan(said)


def test_the_sentence_says_what_must_hold_for_a_base() -> None:
    options: dict[str, Any] = {"risk": error, "n": N, "eps": [0.5], "budget": 20}
    base = {"w": torch.zeros(3, 8)}
    assert (
        "and the base was made without the training examples" in best_bound(network(), loss, relative_to=base, **options).sentence()
    )
    assert "the base" not in best_bound(network(), loss, **options).sentence()
