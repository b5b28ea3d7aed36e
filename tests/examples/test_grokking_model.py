"""The grokking example's decoder against the textbook formulas, written out in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from examples.grokking.data import equations
from examples.grokking.model import Decoder
from nncomplexity import InputError


def decoder(**settings: object) -> Decoder:
    return Decoder(13, torch.Generator().manual_seed(0), **{"d_model": 8, "heads": 2, "d_mlp": 12, **settings}).double()


def reference(weights: dict[str, np.ndarray], tokens: np.ndarray, *, layers: int, heads: int, attention: str) -> np.ndarray:
    """The logits of every position by the definition, with all positions and layers."""

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return np.einsum("oi,bti->bto", weights[f"{name}.weight"], x) + weights[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def by_head(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    x = weights["embedding.weight"][tokens] + weights["position.weight"]
    for layer in range(layers):
        block = f"blocks.{layer}"
        query, key, value = (by_head(dense(f"{block}.attention.{name}", x)) for name in ("query", "key", "value"))
        scores = np.exp(np.einsum("bhqd,bhkd->bhqk", query, key) / np.sqrt(query.shape[-1]))
        shares = scores / scores.sum(-1, keepdims=True)
        # The released code names the last index of the values "v", so no index is matched, and both are summed over.
        mixed = np.einsum("bhqk,bhkd->bhqd" if attention == "proper" else "bhqk,bhvd->bhqd", shares, value)
        mixed = mixed.transpose(0, 2, 1, 3).reshape(*x.shape)
        x = norm(f"{block}.norm1", x + dense(f"{block}.attention.out", mixed))
        up = dense(f"{block}.up", x)
        gelu = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        x = norm(f"{block}.norm2", x + dense(f"{block}.down", gelu))
    return dense("output", x)


@pytest.mark.parametrize("attention", ["proper", "summed"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_shortcuts_change_nothing(layers: int, attention: str) -> None:
    model = decoder(layers=layers, attention=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double))
    tokens = equations("subtraction", 11).tokens
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    expected = reference(weights, tokens.numpy(), layers=layers, heads=2, attention=attention)[:, -1]
    np.testing.assert_allclose(model(tokens).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def gradients(model: Decoder) -> dict[str, Tensor | None]:
    model(equations("addition", 11).tokens).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_parameter_matters_under_proper_attention() -> None:
    # If the same number is added to all scores of a query, the softmax does not change. So the bias of the keys has no effect.
    dead = {name for name, gradient in gradients(decoder(layers=2)).items() if gradient is None or gradient.abs().max() < 1e-9}
    assert dead == {"blocks.0.attention.key.bias", "blocks.1.attention.key.bias"}


def test_queries_and_keys_are_dead_under_summed_attention() -> None:
    dead = {name for name, gradient in gradients(decoder(attention="summed")).items() if gradient is None}
    assert dead == {f"blocks.0.attention.{name}.{part}" for name in ("query", "key") for part in ("weight", "bias")}


def test_summed_attention_cannot_tell_a_from_b_in_one_layer() -> None:
    model = decoder(attention="summed")
    tokens = equations("addition", 11).tokens
    torch.testing.assert_close(model(tokens), model(tokens[:, [2, 1, 0, 3]]))
    proper = decoder()
    assert (proper(tokens) - proper(tokens[:, [2, 1, 0, 3]])).abs().max() > 0.1


@pytest.mark.parametrize(("attention", "table_size"), [("summed", 1.0), ("proper", 0.5)])
def test_initial_weights_have_the_stated_variances(attention: str, table_size: float) -> None:
    model = Decoder(115, torch.Generator().manual_seed(3), attention=attention)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            size = table_size if name in ("embedding.weight", "position.weight") else 1.0
            assert parameter.std().item() == pytest.approx(size * parameter.shape[1] ** -0.5, rel=0.1), name
        elif "norm" not in name:
            assert not parameter.any(), name


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="attention: expected one of proper, summed, got 'flash'"):
        decoder(attention="flash")
    with pytest.raises(InputError, match="heads: d_model = 8 must be a multiple of the number of heads, got 3"):
        decoder(heads=3)
