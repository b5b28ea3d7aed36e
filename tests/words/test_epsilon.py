"""ε as a share of the distance to the network with all weights zero: in Python, on the command line, in rows and in pictures."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nncomplexity import Relative, estimate, rate_distortion, track
from nncomplexity.cli import main
from nncomplexity.cli.track_table import tracked
from nncomplexity.dynamics.results_file import ResultsFile
from nncomplexity.dynamics.settings import settings_of
from nncomplexity.errors import InputError
from nncomplexity.measure import DEFAULT_EPS, default_eps
from nncomplexity.network import constant
from nncomplexity.show import chart, page, read_results
from nncomplexity.words import Share, default_grid, eps_named, name_of, names_in
from tests.markup import parsed
from tests.rows import report as report_file
from tests.rows import row, write_rows

DONE, WRONG_CALL, NOT_WITHIN = 0, 2, 3

TASK = """
import torch

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(64, 6, generator=generator)
targets = inputs @ torch.randn(6, 2, generator=generator)

def scaled(weights, by):
    return by * (inputs @ weights["weight"].T - targets).square().mean()

def loss(weights): return scaled(weights, 1.0)
def large(weights): return scaled(weights, 1e4)
def small(weights): return scaled(weights, 1e-4)
def density(weights): return scaled(weights, 0.5) - 5.0
def no_zero(weights): return scaled(weights, 1.0) / weights["weight"].norm()
def flat(weights): return torch.tensor(0.25)
def hinge(weights): return (1 - inputs[:, 0].sign() * (inputs @ weights["weight"].T)[:, 0]).clamp_min(0).mean()
def cross_entropy(weights): return torch.nn.functional.cross_entropy(inputs @ weights["weight"].T, (targets[:, 0] > 0).long())
"""


@pytest.fixture
def call(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command on a regression that is nearly exact."""
    (workplace / "shares.py").write_text(TASK, encoding="utf-8")
    weights, _ = regression()
    save_file(weights, "model.safetensors")

    def run(command: str, loss: str, *options: str) -> tuple[int, str, str]:
        code = main([command, "model.safetensors", "--loss-fn", f"shares:{loss}", "--budget", "40", *options])
        return code, *capsys.readouterr()

    return run


def regression(scale: float = 1.0) -> tuple[dict[str, torch.Tensor], Callable[[Any], torch.Tensor]]:
    """The weights of a linear regression with small errors, and its squared error times a scale."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=generator)
    exact = torch.randn(6, 2, generator=generator).T.contiguous()
    weights = {"weight": exact + 0.01 * torch.randn(2, 6, generator=generator)}
    return weights, lambda w: scale * (inputs @ w["weight"].T - inputs @ exact.T).square().mean()


# --- the arithmetic ---


def test_a_share_is_of_the_distance_in_either_direction() -> None:
    assert Relative(0.25).of(loss=1.0, zero_loss=3.0) == Relative(0.25).of(loss=3.0, zero_loss=1.0) == 0.5
    assert Relative(0).of(loss=1.0, zero_loss=3.0) == 0


@pytest.mark.parametrize("share", [-0.1, math.nan, math.inf, "1%", None, True])
def test_what_is_no_share_is_refused(share: Any) -> None:
    with pytest.raises(InputError, match=r"Relative: expected a share of at least 0, such as 0\.01 for 1%, got"):
        Relative(share)


@pytest.mark.parametrize(("zero_loss", "words"), [(None, "that loss isn't finite"), (0.5, "both are 0.5")])
def test_without_a_distance_there_is_no_share(zero_loss: float | None, words: str) -> None:
    with pytest.raises(InputError, match=rf"eps: 1% is a share of the distance .*, and {words}; give eps as a number"):
        Relative(0.01).of(loss=0.5, zero_loss=zero_loss)


def test_names_are_read_as_they_are_written() -> None:
    for text, eps in (("0.1", 0.1), ("1%", Relative(0.01)), (" 0.5 % ", Relative(0.005)), ("100%", Relative(1.0)), ("0", 0.0)):
        assert eps_named(text, "--eps") == eps
    assert [name_of(eps_named(text, "--eps")) for text in ("7%", "0.07%", "1e-05", "33.3333%")] == [
        "7%",
        "0.07%",
        "1e-05",
        "33.3333%",
    ]


@pytest.mark.parametrize("text", ["", "%", "-1%", "nan%", "1%%", "one%", "-1"])
def test_what_is_no_eps_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"--eps: expected a finite number of at least 0, got .*; or a share"):
        eps_named(text, "--eps")


def test_names_of_rows_of_either_kind() -> None:
    assert names_in({"eps": [0.5, 0.1], "eps_relative": [None, 0.02]}) == ["0.5", "2%"]
    assert names_in({"eps": [None], "eps_relative": [0.1]}) == ["10%"]
    assert names_in({"eps": ["odd", None]}) == ["odd", "None"]
    assert names_in({}) == []


def test_a_share_of_results_is_no_number_of_its_size() -> None:
    one = Share(0.01)
    assert {one: "share", 0.01: "number"} == {Share(0.01): "share", 0.01: "number"}
    assert (one == 0.01, one != 0.01, one == Share(0.01), sorted([Share(0.5), one])) == (False, True, True, [one, Share(0.5)])
    assert f"{one:.3g} {one:g}" == "1% 1%"


@pytest.mark.parametrize(
    ("loss", "zero_loss", "first"),
    [
        *((0.0, math.log(10), "2"), (1e-3, math.log(50_257), "2"), (0.1, math.log(2), "50%"), (1.0, 1e4, "50%")),
        *((1e-6, 1e-4, "50%"), (0.5, None, "2"), (0.5, 0.5, "2")),
    ],
)
def test_the_grid_is_that_of_a_cross_entropy_where_its_scale_is_one(loss: float, zero_loss: float | None, first: str) -> None:
    grid = default_grid(loss, zero_loss)
    assert (name_of(grid[0]), len(grid)) == (first, 12)


# --- Python ---


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_a_share_asks_for_the_same_whatever_the_scale(scale: float) -> None:
    weights, loss = regression(scale)
    report = estimate(weights, loss, Relative(0.05), budget=60)
    away = float(loss(constant(weights)) - loss(weights))
    assert report.eps == pytest.approx(0.05 * away, rel=1e-6)
    assert (report.eps_relative, report.subject.zero_loss) == (0.05, pytest.approx(float(loss(constant(weights))), rel=1e-6))
    assert report.distortion <= report.eps
    assert report.bits == estimate(weights, loss, report.eps, budget=60).bits
    assert report.bits < 400
    assert f"ε = {report.eps:.4g} (5%)" in report.status
    content = json.loads(report.to_json())
    assert (content["results"][0]["eps"], content["results"][0]["eps_relative"]) == (report.eps, 0.05)
    assert content["zero_loss"] == report.subject.zero_loss


def test_both_kinds_may_be_mixed_and_keep_their_order() -> None:
    weights, loss = regression()
    reports = estimate(weights, loss, [Relative(0.5), 1e-3, Relative(0.01), 0], budget=40)
    assert [report.eps_relative for report in reports] == [0.5, None, 0.01, None]
    assert reports[1].eps == 1e-3
    assert reports[0].bits <= reports[2].bits <= reports[3].bits


def test_a_text_is_no_share_in_python() -> None:
    weights, loss = regression()
    with pytest.raises(InputError, match=r"eps: expected a finite number .*, got '1%'; a share is Relative\(0.01\)"):
        estimate(weights, loss, "1%")


def test_a_loss_without_a_distance_says_so() -> None:
    weights, loss = regression()
    for odd in (lambda w: loss(w) / w["weight"].norm(), lambda w: w["weight"].sum() * 0 + 1.0):
        with pytest.raises(
            InputError, match="eps: 1% is a share of the distance between the loss and that of the network with all weights"
        ):
            estimate(weights, odd, Relative(0.01))


def test_a_loss_that_fails_for_all_weights_zero_is_measured_all_the_same() -> None:
    """A loss that inverts a matrix of weights is not finite there."""
    weights = {"w": torch.eye(6) + 0.1 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0))}
    report = estimate(
        weights, lambda w: (torch.linalg.inv(w["w"]) - torch.eye(6)).square().mean(), 0.05, method="quantize", budget=20
    )
    assert report.subject.zero_loss is None
    assert report.within


def test_the_zero_network_keeps_what_no_search_moves_and_what_is_tied() -> None:
    mask = torch.tensor([0.0, -math.inf])
    tied = torch.ones(2, 2)
    found = constant({"a": tied, "b": tied, "mask": mask, "count": torch.tensor(3), "turn": torch.ones(2, dtype=torch.complex64)})
    assert found["a"] is found["b"]
    assert not found["a"].any()
    assert not found["turn"].any()
    assert found["mask"] is mask
    assert int(found["count"]) == 3


def test_a_module_is_measured_with_all_weights_zero_and_left_as_it_is() -> None:
    model = nn.Linear(4, 3)
    before = model.weight.clone()
    inputs, labels = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    loss = lambda network: nn.functional.cross_entropy(network(inputs), labels)  # noqa: E731
    report = estimate(model, loss, 0.1, method="quantize", budget=12)
    assert report.subject.zero_loss == pytest.approx(math.log(3), rel=1e-6)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(("scale", "first"), [(1e4, Relative(0.5)), (1e-4, Relative(0.5)), (0.1, Relative(0.5)), (1.0, 2.0)])
def test_a_curve_without_eps_has_a_grid_of_its_losss_scale(scale: float, first: Any) -> None:
    weights, loss = regression(scale)
    away = float(loss(constant(weights)) - loss(weights))
    grid = default_eps(weights, loss)
    assert grid[0] == first
    assert (2 <= away <= 20) == (grid is DEFAULT_EPS)
    curve = rate_distortion(weights, loss, budget=60)
    assert [report.eps_relative is None for report in curve.reports] == [grid is DEFAULT_EPS] * 12
    assert all(report.within for report in curve.reports[:6])
    assert len({report.bits for report in curve.reports}) >= 8, "the grid tells files apart"


# --- the command line ---


def test_measure_says_the_share_and_its_value(call: Callable[..., Any]) -> None:
    code, out, _ = call("measure", "large", "--eps", "1%", "--eps", "10%", "--save", "m_{eps}.coarse", "--json", "r.json")
    assert code == DONE
    assert Path("m_1%.coarse").is_file()
    assert Path("m_10%.coarse").is_file()
    results = json.loads(Path("r.json").read_text(encoding="utf-8"))["results"]
    assert [result["eps_relative"] for result in results] == [0.01, 0.1]
    for result, share in zip(results, ("1%", "10%"), strict=True):
        assert f"{result['eps']:.4g} ({share})" in out
        assert result["distortion"] <= result["eps"]
    content = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert f"Shares refer to {content['zero_loss'] - content['loss']:.6g}, the distance" in " ".join(out.split())


@pytest.mark.parametrize(("loss", "words"), [("no_zero", "that loss isn't finite"), ("flat", "both are 0.25")])
def test_a_share_of_nothing_is_one_line(call: Callable[..., Any], loss: str, words: str) -> None:
    code, out, err = call("measure", loss, "--eps", "1%")
    assert (code, out, err.count("\n")) == (WRONG_CALL, "", 1)
    assert words in err


@pytest.mark.parametrize("loss", ["large", "small"])
def test_a_default_curve_of_a_regression_is_no_failure(call: Callable[..., Any], loss: str) -> None:
    code, out, _ = call("curve", loss, "--save", "c_{eps}.coarse", "--json", "c.json")
    assert code == DONE
    assert "(50%)" in out
    assert Path("c_0.01%.coarse").is_file()
    content = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert [result["eps_relative"] for result in content["results"]][:3] == [0.5, 0.2, 0.1]


def test_fine_eps_of_the_default_grid_are_no_failure_and_given_ones_are(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = ("--eps", "1e-13", "--eps", "1e-14")
    assert call("curve", "loss", *fine, "--eps", "1e-15")[0] == NOT_WITHIN
    assert call("curve", "loss", *fine, "--eps", "5%")[0] == NOT_WITHIN
    monkeypatch.setattr("nncomplexity.measure.default_eps", lambda *_: [Relative(0.05), 1e-13, 1e-14])
    code, out, _ = call("curve", "loss")
    assert code == DONE
    assert "1e-14 *" in out
    monkeypatch.setattr("nncomplexity.measure.default_eps", lambda *_: [1e-13, 1e-14, 1e-15])
    assert call("curve", "loss")[0] == NOT_WITHIN


def test_a_grid_may_be_of_shares(call: Callable[..., Any]) -> None:
    code, _, _ = call("curve", "large", "--grid", "1%:50%:3", "--json", "c.json")
    assert code == DONE
    results = json.loads(Path("c.json").read_text(encoding="utf-8"))["results"]
    assert [result["eps_relative"] for result in results] == pytest.approx([0.5, 0.07071, 0.01])
    assert call("curve", "large", "--grid", "1%:50:3")[0] == WRONG_CALL


def test_verify_takes_a_share(call: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("measure", "large", "--eps", "1%", "--save", "m.coarse")[0] == DONE
    argv = ["verify", "m.coarse", "--loss-fn", "shares:large", "--against", "model.safetensors"]
    assert main([*argv, "--eps", "1%"]) == DONE
    capsys.readouterr()
    assert main([*argv, "--eps", "0.0001%"]) == 1
    assert "FAILS" in capsys.readouterr().out


def test_a_share_of_no_distance_can_not_be_verified(call: Callable[..., Any]) -> None:
    assert call("measure", "no_zero", "--eps", "0.1", "--save", "m.coarse")[0] == DONE
    argv = ["verify", "m.coarse", "--loss-fn", "shares:no_zero", "--against", "model.safetensors"]
    assert main([*argv, "--eps", "1%"]) == WRONG_CALL


# --- over training, and in pictures ---


def test_rows_name_their_eps_as_typed_and_say_its_value(workplace: Path) -> None:
    weights, loss = regression()
    for step, off in ((1, 0.5), (2, 0.0)):
        save_file({"weight": weights["weight"] + off}, f"step_{step}.safetensors")
    rows = track("*.safetensors", loss, [Relative(0.1), 0.5], out="r.jsonl", method="quantize", budget=20)
    assert [row["eps_relative"] for row in rows] == [[0.1, None]] * 2
    assert rows[0]["eps"][0] != rows[1]["eps"][0]
    assert all(one["distortion@10%"] <= one["eps"][0] and "bits@0.5" in one for one in rows)
    assert "ε = 10%" in tracked(rows)
    again: list[bool] = []
    track(
        "*.safetensors",
        loss,
        [Relative(0.1), 0.5],
        out="r.jsonl",
        method="quantize",
        budget=20,
        on_row=lambda _, known: again.append(known),
    )
    assert again == [True, True]
    with ResultsFile("r.jsonl") as file, pytest.raises(InputError, match=r'eps = \["10%", "0.5"\], this call has \["20%"\]'):
        file.check_settings(settings_of(loss, Relative(0.2), method="quantize", budget=20))
    results = read_results(Path("r.jsonl"))
    assert results.eps == (0.5, Share(0.1))
    picture = chart(results, "dynamics", eps=[Share(0.1)])
    assert len(picture.panels[0].lines[0].x) == 2
    assert "ε = 10%" in parsed(page(results)).text


def test_rows_that_failed_have_a_share_and_no_value(workplace: Path) -> None:
    weights, _ = regression()
    save_file(weights, "step_1.safetensors")
    (failed,) = track("*.safetensors", lambda _: torch.tensor(math.nan), Relative(0.1), out="r.jsonl", method="quantize", budget=20)
    assert (failed["status"], failed["eps"], failed["eps_relative"]) == ("failed", [None], [0.1])
    assert json.loads(Path("r.jsonl").read_text(encoding="utf-8"))["eps"] == [None]


def test_a_constant_network_is_at_no_distance(workplace: Path) -> None:
    weights, loss = regression()
    save_file(weights, "step_1.safetensors")
    rows = track("*.safetensors", loss, [Relative(0.1), 0.5], method="quantize", budget=20, constant=True)
    assert [row["eps"] for row in rows if row["kind"] == "constant"] == [[0.0, 0.5]]


def test_a_report_of_shares_is_drawn_by_them(tmp_path: Path) -> None:
    document = report_file(eps=[0.7, 0.07])
    for result, share in zip(document["results"], (0.1, 0.01), strict=True):
        result["eps_relative"] = share
    document["curve"] = {"hull": [0.07, 0.7], "fits": {}, "mdl": {"eps": 0.07}}
    (tmp_path / "c.json").write_text(json.dumps(document), encoding="utf-8")
    results = read_results(tmp_path / "c.json")
    assert results.eps == (Share(0.1), Share(0.01))
    curve = results.networks[0].curve
    assert curve is not None
    assert (curve.hull, curve.mdl_eps) == ((Share(0.01), Share(0.1)), Share(0.01))
    text = parsed(page(results)).text
    assert "ε = 1%" in text
    assert "Within ε = " in text


def test_a_share_that_is_none_makes_no_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", [row(eps=[0.5], eps_relative=["much"])])
    with pytest.raises(InputError):
        read_results(path)


def test_plot_finds_a_share(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, loss = regression()
    for step in (1, 2):
        save_file({"weight": weights["weight"] + 1 / step}, f"step_{step}.safetensors")
    track("*.safetensors", loss, [Relative(0.1), Relative(0.5)], out="r.jsonl", method="quantize", budget=20)
    assert main(["plot", "r.jsonl", "--eps", "10%", "--out", "p.svg"]) == DONE
    assert main(["plot", "r.jsonl", "--eps", "0.1", "--out", "p.svg"]) == WRONG_CALL
    assert "eps: 0.1 was not measured; choose among 50%, 10%" in capsys.readouterr().err
