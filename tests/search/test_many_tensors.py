"""Many small tensors: work on all of them at once gives the same as work on each, and hardly takes more operations for more tensors."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nncomplexity import estimate
from nncomplexity.codecs import CODECS
from nncomplexity.file import encode, lengths
from nncomplexity.file.coarse import Constant, Dense, Lossless, LowRank, Piece, decoded_together
from nncomplexity.linalg.lowrank import SVDCache, svd
from nncomplexity.linalg.spectral import effective_rank, effective_ranks
from nncomplexity.network import Distortion
from nncomplexity.network import distortion as distortion_module
from nncomplexity.network.weights import TensorSpec, skeleton_of
from nncomplexity.search.blocks import Block
from nncomplexity.search.factorizations import Factorizations, Shape, latents_at
from nncomplexity.search.latent import coarse_of
from nncomplexity.search.layouts import numbers
from nncomplexity.search.points import CoarseGraining
from nncomplexity.search.problem import Problem


class Counting(TorchDispatchMode):
    """Counts PyTorch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def experts(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"experts.{index}.w": torch.randn(8, 8, generator=generator) for index in range(count)}


def mixed() -> dict[str, Tensor]:
    """Tensors of several shapes and kinds, most of them more than once."""
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, Tensor] = {}
    for index in range(4):
        tensors[f"square.{index}"] = torch.randn(12, 12, generator=generator)
        tensors[f"tall.{index}"] = torch.randn(40, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
        tensors[f"bias.{index}"] = 10.0**index * torch.randn(12, generator=generator)
        tensors[f"half.{index}"] = torch.randn(3, 4, 2, generator=generator).half()
    waves = torch.outer(torch.arange(31.0), torch.tensor([3.0, 5.0])) * (2 * torch.pi / 29)
    tensors["waves"] = torch.cat([waves.cos(), waves.sin()], 1) @ torch.randn(4, 20, generator=generator)
    tensors["noise"] = torch.randn(31, 20, generator=generator)
    return tensors | {
        "scalar": torch.tensor(0.7),
        "ones": torch.ones(5),
        "zeros": torch.zeros(3, 3),
        "far": torch.tensor([1e12, 1.0]),
    }


def problem_of(weights: Mapping[str, Tensor]) -> Problem:
    return Problem(Distortion(weights, lambda w: sum(tensor.double().square().sum() for tensor in w.values())), CODECS[0])


def same(one: Piece, other: Piece) -> bool:
    match one, other:
        case Dense(), Dense():
            return one.step == other.step and np.array_equal(one.symbols, other.symbols)
        case LowRank(), LowRank():
            steps = (one.step_a, one.step_b, one.periods) == (other.step_a, other.step_b, other.periods)
            return steps and np.array_equal(one.A, other.A) and np.array_equal(one.B, other.B)
        case Lossless(), Lossless():
            return np.array_equal(one.data, other.data)
        case _:
            return one == other


@pytest.mark.parametrize("method", ["tight", "quantize"])
@pytest.mark.parametrize("as_module", [False, True])
def test_operations_hardly_grow_with_the_number_of_tensors(method: str, as_module: bool) -> None:
    """What is left for each tensor and evaluation is to hand it to the loss and to take its gradient."""

    def operations(count: int) -> tuple[int, float]:
        weights = experts(count)
        wanted = torch.stack(list(weights.values()))

        def loss(w: Any) -> Tensor:
            tensors = list(w.parameters()) if isinstance(w, nn.Module) else list(w.values())
            return (torch.stack(tensors) - wanted).square().mean()

        module = nn.ParameterDict({name.replace(".", "_"): nn.Parameter(tensor) for name, tensor in weights.items()})
        with Counting() as counting:
            report = estimate(module if as_module else weights, loss, 0.1, method=method, budget=30)
        return counting.counts.total(), report.evaluations

    (few, _), (many, evaluations) = operations(20), operations(120)
    assert (many - few) / 100 <= 10 * evaluations


def test_uniform_quantization_of_all_is_that_of_each() -> None:
    problem = problem_of(mixed())
    specs = [spec for spec in problem.skeleton.tensors if problem.quantizable(spec)]
    for step in (1e-3, 0.1, 1.0, 50.0):
        together = problem.all_quantized(specs, step)
        assert set(problem.largest) == {spec.name for spec in specs}
        for spec in specs:
            assert same(together[spec.name], problem.quantized(spec, step))
    assert together["square.0"] == Constant(0)


@pytest.mark.parametrize("tau", [None, 0.3, 0.8, 1.0])
def test_decomposed_tensors_are_each_what_they_are_alone(tau: float | None) -> None:
    weights = mixed()
    coarse = dict(zip(weights, CoarseGraining(problem_of(weights))(0.05, tau), strict=True))
    for name, tensor in weights.items():
        (alone,) = CoarseGraining(problem_of({name: tensor}))(0.05, tau)
        assert type(coarse[name]) is type(alone)
        spec = skeleton_of({name: tensor}).tensors[0]
        torch.testing.assert_close(coarse[name].decode(spec), alone.decode(spec))


def test_decoding_together_is_decoding_each() -> None:
    weights = mixed()
    specs = skeleton_of(weights).tensors
    for shape in (Shape(0, 0.25), Shape(2, 0.25)):
        coarse = coarse_of(latents_at(shape, specs, weights, Factorizations(weights)))
        pieces = [coarse[spec.name] for spec in specs]
        together = decoded_together(specs, pieces)
        assert list(together) == [spec.name for spec in specs]
        for spec, piece in zip(specs, pieces, strict=True):
            assert together[spec.name].dtype == spec.dtype
            assert torch.equal(together[spec.name], piece.decode(spec))
    integers = TensorSpec(("n",), (2,), torch.int64)
    assert decoded_together([integers], [Dense(np.array([3, -4]))])["n"].tolist() == [3, -4]


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
def test_starts_of_all_are_those_of_each(rank: int) -> None:
    weights = mixed()
    specs, factors = skeleton_of(weights).tensors, Factorizations(weights)
    for coarseness in (0.5, 0.1):
        for spec, latent in zip(specs, latents_at(Shape(rank, coarseness), specs, weights, factors), strict=True):
            (alone,) = latents_at(Shape(rank, coarseness), [spec], weights, Factorizations({spec.name: weights[spec.name]}))
            assert latent.spec == spec
            assert latent.periods == alone.periods
            assert latent.step == pytest.approx(alone.step, rel=1e-6)
            whole, own = (coarse_of([one])[spec.name].decode(spec) for one in (latent, alone))
            torch.testing.assert_close(whole, own)


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("firmness", [0.4, 1.0])
def test_a_step_of_a_descent_does_for_all_what_it_does_for_each(rank: int, firmness: float) -> None:
    weights = {f"{index}.{name}": tensor for index in range(3) for name, tensor in mixed().items() if name not in ("zeros", "far")}
    specs = skeleton_of(weights).tensors
    latents = latents_at(Shape(rank, 0.5), specs, weights, Factorizations(weights))
    generator = torch.Generator().manual_seed(3)
    gradients = {spec.name: torch.randn(spec.shape, generator=generator) for spec in specs if spec.name != "1.square.0"}
    gradients["2.square.1"][0, 0] = torch.nan
    together, alone = (
        Block([latent.copy() for latent in latents], lean=False),
        [Block([latent.copy()], lean=False) for latent in latents],
    )
    for block in (together, *alone):
        block.firmness = firmness
        block.weigh()
    by_name = {block.latents[0].spec.name: block for block in alone}
    assert len(together.latents) == len(alone)
    found = {spec.name: weight for spec, weight in together.weights(torch.device("cpu"))}
    pull, along = together.pulls(gradients)
    singly = [by_name[latent.spec.name] for latent in together.latents]
    pulls = [block.pulls(gradients) for block in singly]
    parts = [part for latent in together.latents for part in latent.parts]
    assert sorted(torch.cat([part.reshape(-1) for part in parts]).tolist()) == sorted(together._u.tolist())
    for block in singly:
        ((spec, weight),) = block.weights(torch.device("cpu"))
        torch.testing.assert_close(found[spec.name], weight)
    torch.testing.assert_close(along, torch.cat([one for _, one in pulls]), rtol=1e-4, atol=1e-5)
    for whole, each in ((pull, [one for one, _ in pulls]), (together.pressure(), [block.pressure() for block in singly])):
        torch.testing.assert_close(whole.sort().values, torch.cat(each).sort().values, rtol=1e-4, atol=1e-5)


def test_the_sizes_under_all_codecs_are_those_of_the_payloads() -> None:
    weights = mixed()
    skeleton, problem = skeleton_of(weights), problem_of(weights)
    tensors = [problem.exact(spec) for spec in skeleton.tensors]
    tensors[0] = problem.quantized(skeleton.tensors[0], 0.1)
    assert lengths(skeleton, tensors, CODECS) == [len(encode(skeleton, tensors, codec)) for codec in CODECS]


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_in_one_of_many_gradients_is_nothing(wrong: float) -> None:
    weights = experts(3)
    factors = {name: torch.full((8, 8), float(index)) for index, name in enumerate(weights)}
    factors["experts.1.w"][2, 3] = wrong
    distortion = Distortion(weights, lambda w: sum(tensor.square().sum() for tensor in w.values()))
    with distortion:
        measured = distortion.gradient(weights)
        assert measured is not None
        gradients = distortion_module._numbers(list(factors.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        torch.testing.assert_close(measured[1][name], 2 * weights[name])
        assert torch.equal(gradient, torch.where(factors[name].isfinite(), factors[name], 0.0))


def test_decompositions_of_all_are_those_of_each() -> None:
    weights = mixed()
    matrices = [name for name, tensor in weights.items() if tensor.dim() > 1]
    cache = SVDCache(weights)
    cache.prepare((weights[name].dim() > 1 and name) or "square.0" for name in weights)
    for name in matrices:
        found, alone = cache[name], svd(weights[name].flatten(1).double())
        torch.testing.assert_close(found.S, alone.S)
        product = found.U @ torch.diag(found.S) @ found.Vh
        torch.testing.assert_close(product, weights[name].flatten(1).double(), rtol=1e-6, atol=1e-6)
    small = SVDCache(weights, max_bytes=2000)
    small.prepare(matrices)
    assert small.nbytes <= 2000


def test_numbers_and_ranks_of_all_are_those_of_each() -> None:
    generator = torch.Generator().manual_seed(2)
    tensors = [torch.randn(12, rank, generator=generator) @ torch.randn(rank, 8, generator=generator) for rank in (1, 2, 5, 8)]
    tensors.append(torch.zeros(12, 8))
    assert numbers([tensor.chunk(2) for tensor in tensors]) == [numbers([tensor.chunk(2)])[0] for tensor in tensors]
    assert numbers([[torch.zeros(4, 4)]]) == [0]
    assert effective_ranks(torch.stack(tensors).double()) == pytest.approx([effective_rank(tensor) for tensor in tensors])
