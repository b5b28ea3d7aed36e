"""Errors in the user's functions: the message has the place in the user's code, and what may help."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nncomplexity import InputError, estimate
from nncomplexity.network import MeanLoss, find_function
from nncomplexity.network.usercode import called

WEIGHTS = {"w": torch.linspace(-1, 1, 12).reshape(3, 4)}


@pytest.fixture
def task(workplace: Path) -> ModuleType:
    (workplace / "mine.py").write_text(
        "import json\n"
        "import torch\n"
        "def deep(w):\n"
        "    return json.loads('{')\n"
        "def loss(w):\n"
        "    return deep(w)\n"
        "def shapes(w):\n"
        "    return (torch.ones(2, 2) @ w['w']).mean()\n"
        "def rows(w, x, y):\n"
        "    return x @ w['w'] + y\n"
    )
    find_function("mine:loss", "--loss-fn")
    return sys.modules["mine"]


def test_an_error_names_the_innermost_line_of_the_users_files(task: ModuleType) -> None:
    with pytest.raises(InputError, match=r"loss_fn: it raised JSONDecodeError: Expecting property name .* \(mine.py, line 4\)$"):
        estimate(WEIGHTS, task.loss, 0.1)
    with pytest.raises(InputError, match=r"loss_fn: it raised RuntimeError: .*shapes cannot be multiplied.* \(mine.py, line 8\)$"):
        estimate(WEIGHTS, task.shapes, 0.1)


def test_so_does_one_in_a_loss_of_examples(task: ModuleType) -> None:
    loss = MeanLoss(task.rows, torch.ones(5, 7), torch.ones(5))
    with pytest.raises(InputError, match=r"loss_fn: it raised RuntimeError: .* \(mine.py, line 10\)$"):
        estimate(WEIGHTS, loss, 0.1)


def test_a_function_of_an_installed_package_is_named_by_where_it_was_entered() -> None:
    with pytest.raises(InputError, match=r"loss_fn: it raised .* \(.*site-packages/torch/.*, line \d+\)"):
        estimate(WEIGHTS, torch.nn.functional.normalize, 0.1)


@pytest.mark.parametrize(
    ("closure", "words"),
    [
        (lambda model: model(torch.ones(1, 4)).mean(), "'dict' object is not callable"),
        (lambda model: model.eval(), "'dict' object has no attribute 'eval'"),
    ],
)
def test_a_dict_that_is_taken_for_a_module_is_hinted_at(closure: object, words: str) -> None:
    with pytest.raises(InputError, match=rf"{words} \(.*\); it got a dict of tensors: .* --model, or pass the module itself"):
        estimate(WEIGHTS, closure, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "closure"),
    [
        (nn.Linear(2, 2), lambda w: w["weight"].mean()),
        (nn.Sequential(nn.Linear(2, 2)), lambda w: w["0.weight"].mean()),
        (nn.ModuleList([nn.Linear(2, 2)]), lambda w: w["0.weight"].mean()),
        (nn.ModuleDict({"a": nn.Linear(2, 2)}), lambda w: w["a.weight"].mean()),
        (nn.Linear(2, 2), lambda w: sum(one.sum() for one in w.values())),
    ],
)
def test_a_module_that_is_taken_for_a_dict_is_hinted_at(module: nn.Module, closure: Any) -> None:
    with pytest.raises(InputError, match=r" \(.*\); it got a module: .* leave --model out, or pass the module's state"):
        estimate(module, closure, 0.1)


def test_an_error_that_has_nothing_to_do_with_it_is_not() -> None:
    def loss(module: nn.Module) -> float:
        return {"a": 1.0}["b"]

    with pytest.raises(InputError, match=r"raised KeyError: 'b' \(.*test_usercode.py, line \d+\)$"):
        estimate(nn.Linear(2, 2), loss, 0.1)


def test_a_name_that_no_tensor_has_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"raised KeyError: 'fc.weight' \(.*\); the tensors are w$"):
        estimate(WEIGHTS, lambda w: w["fc.weight"].sum(), 0.1)


def residual(network: nn.Module) -> Tensor:
    """The distance of the network from a solution of du/dt = cos t. It needs a derivative with respect to the inputs."""
    t = torch.linspace(0, 1, 16)[:, None].requires_grad_()
    (rate,) = torch.autograd.grad(network(t).sum(), t, create_graph=True)
    return (rate - torch.cos(t)).square().mean()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_loss_that_takes_derivatives_itself_is_measured(mode: type) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1, bias=False))
    with mode():
        report = estimate(network, residual, 0.1, budget=24)
    assert report.loss == pytest.approx(residual(network).item(), rel=1e-6)
    assert report.warnings == ()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_one_that_has_none_even_so_is_told_what_it_is_called_under() -> None:
    def broken(weights: dict[str, Tensor]) -> Tensor:
        return torch.autograd.grad(torch.ones(()), weights["w"])[0].sum()

    with pytest.raises(
        InputError,
        match=r"does not require grad.*; it is called under torch.no_grad\(\): if it computes derivatives, wrap its body in torch.enable",
    ):
        estimate(WEIGHTS, broken, 0.1)


class UnprintableError(BaseException):
    """An exception that can't make its message."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_exception_without_a_text_is_named_by_its_class() -> None:
    def loss(_: object) -> float:
        raise UnprintableError

    with pytest.raises(InputError, match=r"loss_fn: it raised UnprintableError \(.*test_usercode.py, line \d+\)$"):
        estimate(WEIGHTS, loss, 0.1)


def test_code_that_no_file_has_is_no_place() -> None:
    # A dataclass has a generated __init__, which is in no file.
    @dataclass
    class Options:
        rate: float

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return Options().rate * weights["w"].sum()  # type: ignore[call-arg]

    with pytest.raises(InputError, match=r"missing 1 required positional argument: 'rate' \(.*test_usercode.py, line \d+\)$"):
        estimate(WEIGHTS, loss, 0.1)
    made = Options
    with pytest.raises(
        InputError, match=r"loss_fn: it raised TypeError: .*__init__\(\).*takes 2 positional arguments but 3 were given$"
    ):
        called("loss_fn", made, 1, 2)
