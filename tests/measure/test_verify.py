"""Verification: true claims hold, each kind of false claim fails, and a claim that can't be checked is refused."""

import json
import math

import numpy as np
import pytest
import torch

from nncomplexity.bounds import bound
from nncomplexity.checkpoint import load_checkpoint, save_safetensors
from nncomplexity.cli.table import verified
from nncomplexity.codecs import codec_named
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import Dense, bitstream
from nncomplexity.measure import check_claims, read_report
from nncomplexity.measure.verify import Reported
from nncomplexity.network import Task, skeleton_of

STEP = 0.25
SYMBOLS = np.arange(-6, 6).reshape(3, 4)
ORIGINAL = {"w": torch.from_numpy(SYMBOLS * STEP).float() + 0.01}
LOSS = float(ORIGINAL["w"].double().abs().sum())
COARSE_LOSS = float(np.abs(SYMBOLS * STEP).sum())
DISTORTION = abs(LOSS - COARSE_LOSS)


def loss(weights):
    return weights["w"].double().abs().sum()


TASK = Task(loss, risk_fn=lambda _: 0.125)


@pytest.fixture(scope="module")
def coarse():
    return bitstream.write(skeleton_of(ORIGINAL), [Dense(SYMBOLS, STEP)], codec_named("entropy"))


@pytest.fixture
def original(tmp_path):
    save_safetensors(tmp_path / "net.safetensors", ORIGINAL)
    return load_checkpoint(tmp_path / "net.safetensors")


class Keeping(torch.nn.Module):
    """A module that keeps what it computed from its weight."""

    def __init__(self, called):
        super().__init__()
        self.w, self.shift = torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(3))
        self.kept = None
        if called:
            self()

    def forward(self):
        if self.kept is None:
            self.kept = 2 * self.w.detach()
        return self.kept.double().abs().sum() + self.shift.double().sum()


@pytest.mark.parametrize("called", [False, True])
def test_a_module_that_keeps_numbers_of_other_weights_is_found(called):
    weights = {"w": torch.from_numpy(SYMBOLS * STEP).float(), "shift": torch.full((3,), STEP)}
    coded = [Dense(SYMBOLS, STEP), Dense(np.ones(3, int), STEP)]
    file = bitstream.write(skeleton_of(weights), coded, codec_named("entropy"))
    found = check_claims(file, Task(lambda module: module(), build=lambda: Keeping(called)))
    assert found.holds == (not called)
    assert found.coarse_loss == 3 * STEP + (0 if called else 2 * COARSE_LOSS)
    if called:
        (claim,) = [one for one in found.claims if one.name == "weights"]
        assert claim.figures.startswith("its loss doesn't depend on its weights alone: a part (Keeping) keeps 'kept', perhaps from")


def report_of(coarse, **changes):
    """The part of a report.json about the file, with correct values except for the given changes."""
    true = {"eps": 1.0, "bits": coarse.bits, "file_bits": coarse.file_bits, "coarse_loss": COARSE_LOSS, "distortion": DISTORTION}
    return Reported({**true, "bound": promise_of(coarse), **changes}, loss=LOSS, sha256=None)


def promise_of(coarse, **changes):
    """The bound in such a report."""
    return {**bound(coarse.bits, risk=0.125, n=1000, self_delimiting=False).to_dict(), **changes}


def claims_of(found):
    return {claim.name: claim.holds for claim in found.claims}


def test_alone_a_file_has_bits_and_a_loss(coarse):
    found = check_claims(coarse, Task(loss))
    assert (found.bits, found.file_bits) == (8 * len(coarse.payload), 8 * len(coarse.content))
    assert found.coarse_loss == pytest.approx(COARSE_LOSS, rel=1e-12)
    assert (found.loss, found.distortion, found.eps, found.risk) == (None, None, None, None)
    assert claims_of(found) == {"bits": True, "loss": True}
    assert found.holds


@pytest.mark.parametrize(("factor", "holds"), [(1.01, True), (0.99, False)])
def test_distortion_against_the_original_is_at_most_eps_or_fails(coarse, original, factor, holds):
    found = check_claims(coarse, TASK, against=original, eps=factor * DISTORTION)
    assert found.distortion == pytest.approx(DISTORTION, rel=1e-9)
    assert claims_of(found) == {"bits": True, "loss": True, "architecture": True, "distortion": holds}
    assert found.holds is holds
    assert found.risk == 0.125


def test_without_eps_the_distortion_is_told_and_nothing_claimed(coarse, original):
    found = check_claims(coarse, TASK, against=original)
    assert found.distortion == pytest.approx(DISTORTION, rel=1e-9)
    assert "distortion" not in claims_of(found)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({**ORIGINAL, "more": torch.ones(1)}, "1 differences, such as more (1,) float32, in the original alone"),
        ({"w": ORIGINAL["w"].double()}, "float"),
        ({"w": ORIGINAL["w"].reshape(4, 3)}, "2 differences, such as w"),
        ({"w": ORIGINAL["w"], "v": ORIGINAL["w"]}, "v = w (3, 4)"),
    ],
)
def test_a_skeleton_that_is_not_the_originals_fails(coarse, tmp_path, weights, words):
    save_safetensors(tmp_path / "other.safetensors", weights)
    found = check_claims(coarse, TASK, against=load_checkpoint(tmp_path / "other.safetensors"), eps=1.0)
    claim = next(claim for claim in found.claims if claim.name == "architecture")
    assert not claim.holds
    assert words in claim.figures
    assert not found.holds


def test_a_loss_that_is_not_finite_fails(coarse):
    found = check_claims(coarse, Task(lambda _: math.nan))
    assert claims_of(found) == {"bits": True, "loss": False}
    assert found.to_dict()["coarse_loss"] is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_an_original_without_a_loss_is_refused(coarse, original):
    with pytest.raises(InputError, match="--against: expected a finite loss of the original weights, got inf"):
        check_claims(coarse, Task(lambda _: math.inf), against=original)


def test_true_figures_of_a_report_hold(coarse):
    found = check_claims(coarse, TASK, reported=report_of(coarse))
    names = {"bits", "loss", "distortion"} | {
        f"reported {name}" for name in ("bits", "file_bits", "coarse_loss", "distortion", "risk", "bound")
    }
    assert claims_of(found) == dict.fromkeys(names, True)
    assert (found.loss, found.eps) == (LOSS, 1.0)


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"bits": 8}, "reported bits"),
        ({"file_bits": 8}, "reported file_bits"),
        ({"coarse_loss": COARSE_LOSS * 1.001}, "reported coarse_loss"),
        ({"eps": DISTORTION / 2}, "distortion"),
        ({"distortion": DISTORTION + 0.1}, "reported distortion"),
        ({"bound": {"value": 0.2}}, "reported bound"),
        ({"bound": {"n": 10_000}}, "reported bound"),
        ({"bound": {"kind": "hoeffding"}}, "reported bound"),
    ],
)
def test_a_false_figure_of_a_report_fails_alone(coarse, change, failing):
    if "bound" in change:
        change = {"bound": promise_of(coarse, **change["bound"])}
    found = check_claims(coarse, TASK, reported=report_of(coarse, **change))
    assert [name for name, holds in claims_of(found).items() if not holds] == [failing]


def test_a_false_risk_fails_alone_though_the_bound_is_made_of_it(coarse):
    promise = bound(coarse.bits, risk=0.1, n=1000, self_delimiting=False).to_dict()
    found = check_claims(coarse, TASK, reported=report_of(coarse, bound=promise))
    assert [name for name, holds in claims_of(found).items() if not holds] == ["reported risk"]
    assert check_claims(coarse, Task(loss), reported=report_of(coarse, bound=promise_of(coarse))).holds


@pytest.mark.parametrize(("of", "holds"), [(None, False), ("itself", True)])
def test_a_report_on_another_checkpoint_fails(coarse, original, of, holds):
    reported = Reported(report_of(coarse).result, loss=LOSS, sha256=of and original.sha256)
    found = check_claims(coarse, TASK, against=original, reported=reported)
    assert claims_of(found)["reported sha256"] is holds
    assert claims_of(found)["reported loss"]


def test_the_result_for_a_file_is_found_by_its_name(tmp_path, coarse):
    results = [{**report_of(coarse).result, "file": f"out/net_{eps}.coarse", "eps": eps} for eps in (0.1, 1)]
    (tmp_path / "report.json").write_text(json.dumps({"loss": 1.5, "sha256": "ab", "results": results}))
    found = read_report(tmp_path / "report.json", tmp_path / "net_1.coarse")
    assert (found.result["eps"], found.loss, found.sha256) == (1, 1.5, "ab")
    with pytest.raises(InputError, match=r"expected one result whose file is 'renamed.coarse', got 2 results"):
        read_report(tmp_path / "report.json", "renamed.coarse")
    (tmp_path / "report.json").write_text(json.dumps({"loss": 1.5, "results": results[:1]}))
    assert read_report(tmp_path / "report.json", "renamed.coarse").result["eps"] == 0.1


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"results": [1], "loss": 1}', '{"results": [{"eps": 1}], "loss": 1}', "nothing", "\x80", "[" * 100_000],
)
def test_a_file_that_is_no_report(tmp_path, text):
    (tmp_path / "report.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"report\.json: no report\.json"):
        read_report(tmp_path / "report.json", "net.coarse")


@pytest.mark.parametrize(
    ("top", "change", "words"),
    [
        ({}, {"bits": "many"}, "TypeError: bits is 'many'"),
        ({}, {"coarse_loss": None}, "TypeError: coarse_loss is None"),
        ({}, {"eps": 10**400}, "OverflowError: int too large"),
        ({}, {"bound": {"risk": "x"}}, "TypeError: risk is 'x'"),
        ({}, {"bound": {"n": 3}}, "KeyError: 'risk'"),
        ({}, {"bound": {"risk": 0.5, "value": 1, "delta": 0.05, "n": 3}}, "KeyError: 'kind'"),
        ({}, {"bound": {"risk": 0.5, "value": 1, "delta": 2, "n": 3, "kind": "kl"}}, "TypeError: bound: delta: expected"),
        ({}, {"eps": math.nan}, "TypeError: eps is nan"),
        ({}, {"distortion": math.inf}, "TypeError: distortion is inf"),
        ({"loss": math.nan}, {}, "TypeError: loss is nan"),
        ({"loss": "x"}, {}, "TypeError: loss is 'x'"),
        ({"sha256": 3}, {}, "TypeError: sha256 is 3"),
        ({"relative_to": {"sha256": 3}}, {}, "TypeError: sha256 is 3"),
        ({"relative_to": "base"}, {}, "AttributeError: 'str' object has no attribute 'get'"),
    ],
)
def test_a_report_with_a_figure_of_another_type(tmp_path, coarse, top, change, words):
    document = {"loss": 1.5, "results": [report_of(coarse, **change).result], **top}
    (tmp_path / "report.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=rf"report\.json: no report\.json of this program \({words}"):
        read_report(tmp_path / "report.json", "net.coarse")


def test_a_report_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"cannot read it \(No such file or directory\); name a report\.json"):
        read_report(tmp_path / "none.json", "net.coarse")


def test_the_table_says_holds_and_fails_within_80_columns(coarse, original):
    page = verified("net.coarse", check_claims(coarse, TASK, against=original, eps=DISTORTION / 2))
    assert page.splitlines()[-1] == "net.coarse: 1 of 4 claims fail."
    assert [line.split()[1] for line in page.splitlines() if line.startswith(("bits", "loss", "arch", "dist"))] == [
        *("holds", "holds", "holds", "FAILS")
    ]
    assert max(map(len, page.splitlines())) <= 80
    assert "all 2 claims hold." in verified("net.coarse", check_claims(coarse, TASK))


class Folding(torch.nn.Module):
    """A module that keeps a value that it computed. Only a new module computes it again."""

    memo: dict = {}  # noqa: RUF012 -- of all of its kind

    def __init__(self, shared=False):
        super().__init__()
        self.w, self.kept, self.shared = torch.nn.Parameter(torch.zeros(3, 4)), {}, shared

    def forward(self):
        return (self.memo if self.shared else self.kept).setdefault("sum", self.w.double().abs().sum().detach())


def test_original_and_decoded_file_are_measured_in_modules_of_their_own(coarse, original):
    task = Task(lambda network: network(), build=Folding)
    found = check_claims(coarse, task, against=original, eps=1.01 * DISTORTION)
    assert found.distortion == pytest.approx(DISTORTION, rel=1e-6)
    assert found.holds


def test_a_loss_that_is_that_of_any_weights_fails(coarse, original):
    Folding.memo.clear()
    for task in (Task(lambda network: network(), build=lambda: Folding(shared=True)), Task(lambda _: 0.5)):
        found = check_claims(coarse, task, against=original, eps=0.1)
        assert [name for name, holds in claims_of(found).items() if not holds] == ["weights"]


def test_an_equal_loss_of_other_weights_is_no_fault(coarse, original):
    task = Task(lambda weights: (weights["w"].abs().max() < 2).double())
    assert check_claims(coarse, task, against=original, eps=0.1).holds
