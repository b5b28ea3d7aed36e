"""The moments of the inputs of weights, against explicit sums over the inputs."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from nncomplexity.network import Distortion, Moment, moments


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def watched(network: Any, loss: Callable[[Any], Any]) -> dict[str, Moment]:
    with Distortion(network, loss) as distortion:
        return distortion.moments()


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


X = drawn(50, 6)
NET = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
TENSORS = {name: tensor.detach() for name, tensor in NET.state_dict().items()}
HIDDEN = F.relu(F.linear(X, TENSORS["0.weight"], TENSORS["0.bias"]))


def squares(outputs: Tensor) -> Tensor:
    return outputs.float().square().mean()


def inferred(net: nn.Module) -> float:
    with torch.inference_mode():
        return float(squares(net(X)))


def loaded(weights: dict[str, Tensor]) -> Tensor:
    net = copy.deepcopy(NET)
    net.load_state_dict(weights)
    return squares(net(X))


WAYS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "module": (NET, lambda net: squares(net(X))),
    "inference mode": (NET, inferred),
    "row by row": (NET, lambda net: squares(torch.stack([net(row) for row in X]))),
    "functional_call": (TENSORS, lambda weights: squares(torch.func.functional_call(NET, weights, (X,)))),
    "load_state_dict": (TENSORS, loaded),
    "products": (
        TENSORS,
        lambda w: squares(F.relu(X @ w["0.weight"].T + w["0.bias"]) @ w["2.weight"].T + w["2.bias"]),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_moment_is_the_sum_over_all_inputs_of_a_layer_however_it_is_called(way: str) -> None:
    found = watched(*WAYS[way])
    assert found.keys() == {"0.weight", "2.weight"}
    for name, inputs in (("0.weight", X), ("2.weight", HIDDEN)):
        torch.testing.assert_close(found[name].H, (inputs.T @ inputs).double(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[name].matrix(TENSORS[name]), TENSORS[name])


def test_under_autocast_the_copies_of_weights_are_known() -> None:
    def loss(net: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return squares(net(X))

    torch.testing.assert_close(watched(NET, loss)["0.weight"].H, (X.T @ X).double(), rtol=0.02, atol=0.5)


def test_a_weight_that_is_summed_over_its_first_axis_has_its_matrix_transposed() -> None:
    weight = drawn(6, 4, seed=1)
    moment = watched({"w": weight}, lambda given: squares(X @ given["w"]))["w"]
    torch.testing.assert_close(moment.H, (X.T @ X).double(), rtol=1e-5, atol=1e-5)
    assert torch.equal(moment.matrix(weight), weight.T)
    assert torch.equal(moment.back(moment.matrix(weight), weight.shape), weight)


def test_einsum_over_heads_is_seen() -> None:
    moment = watched({"w": drawn(2, 4, 6, seed=1)}, lambda given: squares(torch.einsum("bi,hoi->bho", X, given["w"])))["w"]
    torch.testing.assert_close(moment.H, (X.T @ X).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), ((2, 1), (0, 1), (1, 2))])
def test_the_moment_of_a_convolution_is_that_of_unfolded_inputs(stride: Any, padding: Any, dilation: Any) -> None:
    images = drawn(7, 3, 9, 8)
    conv = seeded(lambda: nn.Conv2d(3, 5, (3, 2), stride, padding, dilation))
    moment = watched(conv, lambda net: squares(net(images)))["weight"]
    unfolded = F.unfold(images, (3, 2), dilation, padding, stride).transpose(1, 2).reshape(-1, 18)
    torch.testing.assert_close(moment.H, (unfolded.T @ unfolded).double(), rtol=1e-4, atol=1e-4)
    assert torch.equal(moment.matrix(conv.weight), conv.weight.reshape(5, 18))


def test_the_moment_of_a_convolution_over_sequences_is_that_of_its_windows() -> None:
    sounds = drawn(4, 2, 11)
    moment = watched(seeded(lambda: nn.Conv1d(2, 3, 3, padding="same")), lambda net: squares(net(sounds)))["weight"]
    padded = F.pad(sounds, (1, 1))
    windows = torch.cat([padded[:, :, start : start + 3].reshape(4, 6) for start in range(11)])
    torch.testing.assert_close(moment.H, (windows.T @ windows).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda: nn.Conv2d(4, 4, 3, groups=2), lambda: nn.ConvTranspose2d(4, 4, 3)], ids=["grouped", "transposed"]
)
def test_grouped_and_transposed_convolutions_are_left(make: Callable[[], nn.Module]) -> None:
    images = drawn(2, 4, 5, 5)
    assert watched(seeded(make), lambda net: squares(net(images))) == {}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_has_the_moments_of_its_inputs_and_states(bidirectional: bool) -> None:
    sequences = drawn(4, 7, 6)
    net = seeded(lambda: nn.LSTM(6, 5, batch_first=True, bidirectional=bidirectional))
    states = net(sequences)[0].detach()
    found = watched(net, lambda net: squares(net(sequences)[0]))
    nothing = torch.zeros(4, 1, 5)
    before = {"weight_hh_l0": torch.cat([nothing, states[:, :-1, :5]], 1)}
    if bidirectional:
        before["weight_hh_l0_reverse"] = torch.cat([states[:, 1:, 5:], nothing], 1)
    for name, inputs in before.items():
        rows = inputs.reshape(-1, 5)
        torch.testing.assert_close(found[name].H, (rows.T @ rows).double(), rtol=1e-4, atol=1e-4)
    rows = sequences.reshape(-1, 6)
    torch.testing.assert_close(found["weight_ih_l0"].H, (rows.T @ rows).double(), rtol=1e-4, atol=1e-4)


def test_a_transformer_s_projections_are_seen() -> None:
    tokens = drawn(3, 5, 8)
    net = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    fastpath = torch.backends.mha.get_fastpath_enabled()
    found = watched(net, lambda net: squares(net(tokens)))
    assert found.keys() == {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"}
    rows = tokens.reshape(-1, 8)
    torch.testing.assert_close(found["self_attn.in_proj_weight"].H, (rows.T @ rows).double(), rtol=1e-4, atol=1e-4)
    assert torch.backends.mha.get_fastpath_enabled() == fastpath


def test_the_moments_of_shared_weights_are_summed() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)))
    net[1].weight = net[0].weight
    moment = watched(net, lambda net: squares(net(X)))["0.weight"]
    both = torch.cat([X, F.linear(X, net[0].weight.detach())])
    torch.testing.assert_close(moment.H, (both.T @ both).double(), rtol=1e-4, atol=1e-4)


WORDS = torch.tensor([[0, 2, 2], [4, 2, 0]])
LOOKUPS: dict[str, Callable[[Tensor], Tensor]] = {
    "embedding": lambda table: F.embedding(WORDS, table),
    "padded": lambda table: F.embedding(WORDS, table, padding_idx=1),
    "indices": lambda table: table[WORDS],
    "from the end": lambda table: table[WORDS - 5],
    "index_select": lambda table: table.index_select(0, WORDS.flatten()),
    "twice": lambda table: torch.cat([table[WORDS[0]], F.embedding(WORDS[1], table)]),
}


@pytest.mark.parametrize("look_up", LOOKUPS.values(), ids=list(LOOKUPS))
def test_a_table_has_the_number_of_times_that_each_row_is_looked_up(look_up: Callable[[Tensor], Tensor]) -> None:
    moment = watched({"table": drawn(5, 3)}, lambda given: squares(look_up(given["table"])))["table"]
    one_hot = F.one_hot(WORDS.flatten(), 5).double()
    assert torch.equal(torch.diag(moment.H), one_hot.T @ one_hot)
    A, B = drawn(2, 5, seed=1).double(), drawn(4, 5, seed=2).double()
    torch.testing.assert_close(moment.inner(A, B), A @ (one_hot.T @ one_hot) @ B.T)
    torch.testing.assert_close(moment.matrix(drawn(5, 3)), drawn(5, 3).T)


@pytest.mark.parametrize(
    "rows", [torch.tensor([True, False, True, True, False]), (slice(None), torch.tensor([0, 2]))], ids=["mask", "columns"]
)
def test_a_mask_and_columns_are_no_rows_that_are_looked_up(rows: Any) -> None:
    assert watched({"table": drawn(5, 3)}, lambda given: squares(given["table"][rows])) == {}


def test_what_is_multiplied_along_two_axes_or_also_looked_up_has_no_moment() -> None:
    both_ways = {"w": drawn(6, 6, seed=2)}
    assert watched(both_ways, lambda given: squares(F.relu(X @ given["w"]) @ given["w"].T)) == {}
    words = torch.arange(5)

    def tied(given: dict[str, Tensor]) -> Tensor:
        return squares(F.embedding(words, given["w"]) @ given["w"].T)

    def tied_backwards(given: dict[str, Tensor]) -> Tensor:
        return squares(drawn(2, 6) @ given["w"].T) + squares(F.embedding(words, given["w"]))

    assert watched({"w": drawn(5, 6, seed=3)}, tied) == {}
    assert watched({"w": drawn(5, 6, seed=3)}, tied_backwards) == {}


def test_a_moment_that_is_too_large_is_left_out_even_if_the_table_is_also_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_MOST_NUMBERS", 20)

    def loss(given: dict[str, Tensor]) -> Tensor:
        return squares(drawn(2, 5) @ given["w"]) + squares(given["w"][WORDS])

    assert watched({"w": drawn(5, 3, seed=3)}, loss) == {}


def test_a_loss_without_products_shows_nothing_and_costs_nothing() -> None:
    with Distortion({"w": drawn(4, 4)}, lambda given: given["w"].square().mean()) as distortion:
        assert distortion.moments() == {}
        assert distortion.evaluations == 0


def test_a_call_that_fails_when_it_is_watched_shows_nothing() -> None:
    calls = []

    def loss(net: nn.Module) -> Tensor:
        calls.append(1)
        if _get_current_dispatch_mode():
            raise RuntimeError("no modes here")
        return squares(net(X))

    with Distortion(NET, loss) as distortion:
        assert distortion.moments() == {}
        assert distortion.evaluations == 0
        assert distortion.loss(distortion.weights) == distortion.original


def test_watching_leaves_the_module_and_the_random_state_alone() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    found = watched(net, lambda net: squares(net(X)))
    assert len(found) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part.training for part in net.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_moments_beyond_the_memory_for_them_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_MOST_NUMBERS", 80)
    assert watched(NET, lambda net: squares(net(X))).keys() == {"0.weight"}


def test_an_overflow_shows_nothing() -> None:
    assert watched({"w": drawn(6, 4)}, lambda given: (torch.full((3, 6), 1e30) @ given["w"]).sum() * 0.0 + given["w"].sum()) == {}
