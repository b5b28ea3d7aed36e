"""The number of threads of a measurement."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncomplexity import Divergence, estimate
from nncomplexity.errors import InputError
from nncomplexity.measure import check_claims
from nncomplexity.network import Task
from nncomplexity.network.threads import SMALL_WORK, Threads, Work

CPU = [torch.device("cpu")]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Loss:
    """A loss that notes the number of threads at each call."""

    def __init__(self, side: int = 8) -> None:
        self.side = side
        self.threads: list[int] = []
        self.at_the_end: list[int] = []

    def __call__(self, weights: dict[str, Tensor]) -> Tensor:
        self.threads.append(torch.get_num_threads())
        square = torch.ones(self.side, self.side)
        found = (weights["w"] - 1).square().mean() + 0 * (square @ square).sum()
        self.at_the_end.append(torch.get_num_threads())
        return found


def weights() -> dict[str, Tensor]:
    return {"w": torch.randn(12, 12, generator=torch.Generator().manual_seed(0))}


def test_a_small_loss_has_one_thread_and_the_program_its_own_number_afterwards() -> None:
    loss = Loss()
    estimate(weights(), loss, 0.1, method="quantize", budget=6)
    assert set(loss.threads) == {1}
    assert torch.get_num_threads() == 2


def test_a_large_loss_has_the_threads_of_the_program() -> None:
    loss = Loss(side=round((2 * SMALL_WORK) ** (1 / 3)))
    estimate(weights(), loss, 0.1, method="quantize", budget=6)
    assert loss.threads == [1] + [2] * (len(loss.threads) - 1)
    assert loss.at_the_end == [2] * len(loss.threads)


def test_a_small_loss_is_not_called_more_often() -> None:
    of_two, of_one = Loss(), Loss()
    estimate(weights(), of_two, 0.1, method="quantize", budget=6)
    torch.set_num_threads(1)
    estimate(weights(), of_one, 0.1, method="quantize", budget=6)
    assert len(of_one.threads) == len(of_two.threads)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("as_divergence", [False, True])
def test_the_file_does_not_depend_on_the_number_of_threads(as_divergence: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    images, network = torch.randn(300, 40, generator=generator), {"w": torch.randn(5, 40, generator=generator)}
    labels = torch.randint(5, (300,), generator=generator)

    def outputs(given: dict[str, Tensor], x: Tensor) -> Tensor:
        return x @ given["w"].T

    loss = Divergence(outputs, images) if as_divergence else lambda given: F.cross_entropy(outputs(given, images), labels)
    files = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        files.append(estimate(network, loss, 0.01, budget=40).file.content)
        assert torch.get_num_threads() == threads
    assert files[0] == files[1] == files[2]


def test_a_verification_of_a_small_loss_has_one_thread() -> None:
    report, loss = estimate(weights(), Loss(), 0.1, method="quantize", budget=6), Loss()
    assert check_claims(report.file, Task(loss)).holds
    assert loss.threads == [1]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_restores_the_number(error: type[BaseException]) -> None:
    def fails() -> None:
        raise error

    def measure(first: Callable[[], None], second: Callable[[], None]) -> None:
        with Threads(1, CPU) as threads:
            threads.decide(first)
            assert torch.get_num_threads() == 1
            second()

    with pytest.raises(error):
        measure(fails, fails)
    assert torch.get_num_threads() == 2
    with pytest.raises(error):
        measure(lambda: None, fails)
    assert torch.get_num_threads() == 2


def test_an_evaluation_that_fails_changes_nothing() -> None:
    def fails(_: object) -> float:
        raise ValueError("no")

    with pytest.raises(InputError, match="ValueError: no"):
        estimate(weights(), fails, 0.1)
    assert torch.get_num_threads() == 2


def test_another_thread_than_the_main_one_changes_nothing() -> None:
    loss, main = Loss(), list[int]()

    def measure() -> None:
        torch.get_num_threads()
        estimate(weights(), loss, 0.1, method="quantize", budget=6)

    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    main.append(torch.get_num_threads())
    assert set(loss.threads) == {2}
    assert main == [2]


@pytest.mark.parametrize(
    ("parameters", "device"), [(1 << 22, "cpu"), (1, "cuda")], ids=["a large network", "a network on an accelerator"]
)
def test_nothing_is_counted_where_the_work_is_large_or_elsewhere(parameters: int, device: str) -> None:
    called: list[int] = []
    with Threads(parameters, [torch.device(device)]) as threads:
        threads.decide(lambda: called.append(torch.get_num_threads()))
    assert called == [2]


def test_work_is_counted_in_pairs_and_elements() -> None:
    x, kernel = torch.ones(2, 3, 9, 9), torch.ones(5, 3, 3, 3)
    with Work() as work:
        F.conv2d(x, kernel)
    assert work.pairs == 2 * 5 * 7 * 7 * 3 * 3 * 3
    with Work() as work:
        x.reshape(-1).view(9, -1).relu_()
        x.sum()
    assert work.pairs == 10 * 2 * x.numel()
    assert work.is_small
    with Work() as work:
        torch.ones(1, device="meta").add(1)
    assert not work.is_small


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(64, 96, batch_first=True), lambda: nn.TransformerEncoderLayer(64, 2, 96, batch_first=True)]
)
def test_the_work_of_a_fused_layer_is_not_less_than_its_products(make: Callable[[], nn.Module]) -> None:
    layer, x = make().eval(), torch.ones(5, 20, 64)
    with torch.no_grad(), Work() as work:
        layer(x)
    products = 5 * 20 * sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
    assert products <= work.pairs <= 20 * products


def test_a_result_that_counting_may_change_is_computed_again() -> None:
    loss = Loss()

    def of_singular_values(weights: dict[str, Tensor]) -> Tensor:
        return loss(weights) + torch.linalg.svdvals(weights["w"]).sum()

    with Threads(1, CPU) as threads:
        found = threads.decide(lambda: of_singular_values(weights()))
        assert found == of_singular_values(weights())
    assert loss.threads == [1, 1, 1]


def test_an_operation_that_cannot_be_counted_is_computed_without() -> None:
    class Uncountable(Loss):
        def __call__(self, weights: dict[str, Tensor]) -> Tensor:
            if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
                raise NotImplementedError("no rule for this mode")
            return super().__call__(weights)

    loss = Uncountable()
    estimate(weights(), loss, 0.1, method="quantize", budget=6)
    assert set(loss.threads) == {2}
