"""The parts of a descent: latents on the way to their symbols, Adam's steps, and how a descent begins and ends."""

import math
from collections.abc import Iterator
from itertools import pairwise, repeat

import pytest
import torch
from torch import Tensor

from nncomplexity import estimate
from nncomplexity.file import CoarseTensor, Constant, decoded_together
from nncomplexity.network import Distortion, TensorSpec, skeleton_of
from nncomplexity.search.descent import descend
from nncomplexity.search.latent import DEAD_ZONE, Alike, Latent, alike, coarse_of
from nncomplexity.search.mover import Mover
from nncomplexity.search.schedule import Schedule

DENSE = (lambda generator: [3 * torch.randn(6, 5, generator=generator)], (0, 0))
FACTORS = (lambda generator: [3 * torch.randn(6, 2, generator=generator), 3 * torch.randn(2, 5, generator=generator)], (0, 0))
WAVES = (FACTORS[0], (5, 3))


def latent_of(form, dtype=torch.float32, base=None, precision=6) -> Latent:
    make, periods = form
    spec = TensorSpec("w", (6, 5), dtype, base=base)
    return Latent(spec, make(torch.Generator().manual_seed(0)), -1.5, periods, precision)


@pytest.mark.parametrize("form", [DENSE, FACTORS, WAVES], ids=["dense", "factors", "waves"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_wholly_rounded_latents_decode_to_what_the_file_does(form, dtype) -> None:
    latent = latent_of(form, dtype)
    decoded, file = latent.decode(latent.spec, torch.device("cpu")), latent.coarse().decode(latent.spec)
    assert decoded.dtype == dtype
    torch.testing.assert_close(decoded, file, rtol=max(1e-5, torch.finfo(dtype).eps), atol=1e-4)


@pytest.mark.parametrize("form", [DENSE, FACTORS], ids=["dense", "factors"])
def test_on_a_base_latents_decode_to_the_sum(form) -> None:
    base = torch.randn(6, 5)
    on_base, alone = latent_of(form, base=base), latent_of(form)
    for firmness in (0.3, 1.0):
        on_base.firmness = alone.firmness = firmness
        decoded = on_base.decode(on_base.spec, torch.device("cpu"))
        torch.testing.assert_close(decoded, base + alone.decode(alone.spec, torch.device("cpu")), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", [DENSE, FACTORS, WAVES], ids=["dense", "factors", "waves"])
def test_half_the_steps_hold_the_same_weights(form) -> None:
    latent = latent_of(form)
    before, step, zeros = (
        latent.decode(latent.spec, torch.device("cpu")),
        latent.step,
        [part[q == 0] for part, q in zip(latent.parts, latent.rounded(), strict=True)],
    )
    latent.halve()
    assert latent.step == pytest.approx(step / 2)
    torch.testing.assert_close(latent.decode(latent.spec, torch.device("cpu")), before)
    for part, kept in zip(latent.parts, zeros, strict=True):
        assert len(kept)
        assert torch.equal(part[part.abs() < DEAD_ZONE], kept)
        assert (part[part.abs() >= DEAD_ZONE].abs() >= 2).all()


def test_soft_numbers_lie_between_what_they_are_and_their_symbols_and_zeros_are_zero() -> None:
    u = torch.tensor([0.0, 0.59, -0.59, 0.61, 1.4, -2.5001, 7.0])
    spec = TensorSpec("w", (7,), torch.float32)
    latent = Latent(spec, [u.clone()], 0.0)
    rounded = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, -3.0, 7.0])
    for firmness in (0.0, 0.25, 0.5, 1.0):
        latent.firmness = firmness
        expected = torch.where(u.abs() < DEAD_ZONE, 0.0, (1 - firmness) * u + firmness * rounded)
        torch.testing.assert_close(latent.decode(spec, torch.device("cpu")), expected)


@pytest.mark.parametrize("form", [DENSE, FACTORS, WAVES], ids=["dense", "factors", "waves"])
@pytest.mark.parametrize("firmness", [0.5, 1.0])
def test_gradients_are_autograd_s_where_rounding_counts_as_the_identity(form, firmness) -> None:
    """By finite differences of ⟨C, W⟩ in the parts that W is made of, each moved as a whole with its symbol."""
    latent = latent_of(form)
    C = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    latent.firmness = firmness
    gradients, along = latent.gradients(C)
    soft = [part[0] for part in Alike([latent])._softened()]
    moved = Latent(latent.spec, [part.clone() for part in soft], latent.log_scale, latent.periods, latent.precision, firmness=0.0)

    def value() -> float:
        # At firmness 0 a number is itself, unless it rounds to zero: those are left alone here.
        return float((moved.decode(moved.spec, torch.device("cpu")) * C).sum())

    for part, gradient in zip(moved.parts, gradients, strict=True):
        for index in [(0, 0), (1, 1), (part.shape[0] - 1, part.shape[1] - 1)]:
            if abs(part[index]) < DEAD_ZONE + 0.1:
                continue
            before = float(part[index])
            part[index] = before + 0.05
            up = value()
            part[index] = before - 0.05
            down = value()
            part[index] = before
            assert gradient[index].item() == pytest.approx((up - down) / 0.1, rel=1e-2, abs=1e-3)
    assert along == pytest.approx(value(), rel=1e-4)


@pytest.mark.parametrize(
    ("shapes", "dtype"), [([(6, 4)], torch.float32), ([(6, 2), (2, 4)], torch.float16), ([(24,)], torch.float64)]
)
@pytest.mark.parametrize("firmness", [0.5, 1.0])
def test_latents_that_are_alike_are_together_what_each_is_alone(
    shapes: list[tuple[int, ...]], dtype: torch.dtype, firmness: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = []
    for place in range(7):
        parts = [2 * torch.randn(shape, generator=generator) for shape in shapes]
        if place == 2:  # of factors nothing is left, and of the others all is one
            parts[0].fill_(0.0 if len(parts) == 2 else 1.0)
        scale = 0.0 if place == 2 else -0.3 * place
        latents.append(Latent(TensorSpec((f"w{place}",), (6, 4), dtype), parts, scale, precision=3, firmness=firmness))
    (group,) = alike(latents)
    grads = torch.randn(7, 6, 4, generator=generator)
    together = coarse_of(latents)
    pulls, along = group.gradients(grads)
    decoded = decoded_together([latent.spec for latent in latents], list(together.values()))
    for place, (latent, grad, weight) in enumerate(zip(latents, grads, group.decode(torch.device("cpu")), strict=True)):
        alone = latent.coarse()
        assert type(together[latent.spec.name]) is type(alone)
        assert torch.equal(decoded[latent.spec.name], alone.decode(latent.spec))
        assert torch.equal(weight, latent.decode(latent.spec, torch.device("cpu")))
        own, slope = latent.gradients(grad)
        torch.testing.assert_close([pull[place] for pull in pulls], own)
        assert along[place] == pytest.approx(slope, rel=1e-5, abs=1e-6)
    assert isinstance(together["w2"], Constant)


def test_a_mover_of_several_moves_them_as_one_of_each_does() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = [
        Latent(TensorSpec((f"w{i}",), (4, 3), torch.float32), [2 * torch.randn(4, 3, generator=generator)], -1.0) for i in range(5)
    ]
    apart = [Mover(Alike([latent.copy()]), Schedule(), lean=False) for latent in latents]
    together = Mover(Alike(latents), Schedule(), lean=False)
    for count in range(6):
        grads = {latent.spec.name: torch.randn(4, 3, generator=generator) for latent in latents[1:]}  # the first has none
        for mover in (*apart, together):
            pull, along, _ = mover.gradients(grads)
            mover.step(pull, along, 0.8)
            if count == 3:
                mover.go_back(grads)
            elif count == 4:
                mover.go_back(None)
            else:
                mover.keep_place()
    for mover, latent in zip(apart, latents, strict=True):
        assert torch.equal(mover.latents[0].parts[0], latent.parts[0])
        assert mover.latents[0].log_scale == latent.log_scale


def test_steps_are_nesterov_s() -> None:
    """Against the textbook's loop, a number at a time."""
    spec = TensorSpec("w", (3,), torch.float32)
    latent = Latent(spec, [torch.tensor([5.0, -3.0, 1.0])], 0.0)
    schedule = Schedule()
    mover = Mover(Alike([latent]), schedule, lean=False)
    place = latent.parts[0].double().tolist()
    means, squares = [0.0] * 3, [0.0] * 3
    generator = torch.Generator().manual_seed(0)
    for count in range(1, 6):
        gradient = torch.randn(3, generator=generator)
        mover.step([gradient[None]], None, 0.7)
        for i, g in enumerate(gradient.double().tolist()):
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.95 * squares[i] + 0.05 * g * g
            ahead = (0.9 * means[i] + 0.1 * g) / (1 - 0.9**count)
            place[i] -= schedule.rate * 0.7 * ahead / math.sqrt(squares[i] / (1 - 0.95**count))
        torch.testing.assert_close(latent.parts[0].double(), torch.tensor(place, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_a_descent_shows_no_candidate_until_its_rounding_is_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(8, 6, generator=generator)}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return (weights["w"] - 1).square().mean()

    latent = Latent(skeleton_of(weights).tensors[0], [weights["w"] * 20], math.log(0.05))
    with Distortion(weights, loss) as distortion:
        visits = list(descend(distortion, [latent], {}, 0.5, 20, Schedule()))
        assert [visit.tensors is None for visit in visits] == [True] * 10 + [False] * 10
        for visit in visits[10:]:
            tensors: list[CoarseTensor] = visit.tensors or []
            assert distortion.loss({"w": tensors[0].decode(latent.spec)}) == pytest.approx(visit.loss, rel=1e-5)


def test_what_soft_weights_have_reached_is_no_measure_for_rounded_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft weights come near, rounded ones stay far off: a dozen gradients later all steps are halved."""
    weights = {"w": torch.ones(4, 3)}
    latent = Latent(skeleton_of(weights).tensors[0], [2 * torch.ones(4, 3)], math.log(0.5))
    steps, measured, halved = 60, 0, []

    def gradient(*_: object) -> tuple[float, dict[str, Tensor]]:
        nonlocal measured
        measured += 1
        return (0.01 if latent.firmness < 1 else 3.0), {"w": torch.zeros(4, 3)}

    monkeypatch.setattr(Latent, "halve", lambda _: halved.append(measured - 1))
    with Distortion(weights, lambda weights: (weights["w"] - 1).square().mean()) as distortion:
        monkeypatch.setattr(distortion, "gradient", gradient)
        visits = list(descend(distortion, [latent], {}, 1.0, steps, Schedule()))
    assert len(visits) == steps
    assert halved == [30 + 12]  # rounding is whole from 30 on; from 48 on steps stay as they are
    assert [visit.stalls for visit in visits] == [0] * 43 + [1] * 17


def test_a_stall_of_soft_weights_is_told_and_leaves_the_steps_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"w": torch.ones(4, 3)}
    latent = Latent(skeleton_of(weights).tensors[0], [2 * torch.ones(4, 3)], math.log(0.5))
    halved: list[Latent] = []
    monkeypatch.setattr(Latent, "halve", halved.append)
    with Distortion(weights, lambda weights: (weights["w"] - 1).square().mean()) as distortion:
        monkeypatch.setattr(distortion, "gradient", lambda *_: (3.0, {"w": torch.zeros(4, 3)}))
        stalls = [visit.stalls for visit in descend(distortion, [latent], {}, 1.0, 60, Schedule(soft=0.8))]
    assert stalls == [0] * 22 + [1] * 12 + [2] * 12 + [3] * 14  # from a third on, every dozen steps, up to 48
    assert halved == []


def test_an_eps_that_moves_takes_the_loss_with_it() -> None:
    """From within a fine ε the loss rises all along, though seldom beyond the ε of the moment; where ε stays, so does the loss."""
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(40, 30, generator=generator)}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return (weights["w"] - wanted).square().mean()

    wanted, steps, ends = weights["w"], 60, (0.002, 0.5)
    schedule = Schedule(longest_soft=0, pressure=4.0)

    def rises(until: float | None) -> list[float]:
        latent = Latent(skeleton_of(weights).tensors[0], [weights["w"] * 8], math.log(1 / 8))
        with Distortion(weights, loss) as distortion:
            return [visit.loss for visit in descend(distortion, [latent], {}, ends[0], steps, schedule, until=until)]

    aims = [ends[0] * (ends[1] / ends[0]) ** min(1.0, step / (steps - 3)) for step in range(steps)]
    moved = rises(ends[1])
    assert sum(rise <= aim for rise, aim in zip(moved, aims, strict=True)) >= 0.8 * steps
    assert all(moved[step] < moved[step + 15] for step in range(0, 45, 15))
    assert 0.1 * ends[1] <= moved[-1] <= ends[1]
    assert rises(None)[-1] <= 3 * ends[0]


@pytest.mark.parametrize(
    ("nothing", "rises", "backs"),
    [
        (math.inf, [0.5, 3.0, 0.5, 3.9], 0),
        (2.5, [0.5, 2.4, 0.5, 3.0], 1),
        (1.2, [0.5, 1.9, 0.5, 2.1], 1),  # twice ε is never too far
    ],
    ids=["no limit but the leap's", "beyond all weights zero", "nearer than twice ε"],
)
def test_a_step_that_leads_beyond_all_weights_zero_is_taken_back(monkeypatch, nothing, rises, backs) -> None:
    weights, steps = {"w": torch.ones(4, 3)}, 60
    latent = Latent(skeleton_of(weights).tensors[0], [2 * torch.ones(4, 3)], math.log(0.5))
    losses, gone_back = iter([*rises, *[0.5] * steps]), []
    plain = Mover.go_back
    monkeypatch.setattr(Mover, "go_back", lambda mover, grads: (gone_back.append(1), plain(mover, grads)))
    with Distortion(weights, lambda weights: (weights["w"] - 1).square().mean()) as distortion:
        monkeypatch.setattr(distortion, "gradient", lambda *_: (next(losses), {"w": torch.zeros(4, 3)}))
        list(descend(distortion, [latent], {}, 1.0, steps, Schedule(), nothing=nothing))
    assert len(gone_back) == backs


def test_firmness_only_grows() -> None:
    schedule = Schedule()
    firmness = [schedule.firmness_at(step, 40) for step in range(40)]
    assert firmness[0] == schedule.firmness
    assert firmness[-1] == 1.0
    assert all(one <= next_one for one, next_one in pairwise(firmness))
    assert [Schedule(soft=0.0).firmness_at(step, 40) for step in (0, 20)] == [1.0, 1.0]
    assert sum(schedule.firmness_at(step, 1000) < 1 for step in range(1000)) == schedule.longest_soft


def test_a_descent_comes_back_from_a_loss_that_is_no_number() -> None:
    """A column's last symbol goes, the loss divides by its norm: what the step changed is put back, and the descent goes on."""
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(12, 8, generator=generator)}
    target = torch.nn.functional.normalize(weights["w"], dim=0)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return (weights["w"] / weights["w"].norm(dim=0) - target).square().sum()

    latent = Latent(skeleton_of(weights).tensors[0], [weights["w"] / 2], math.log(2.0))
    latent.parts[0][:, 3] *= 0.62 / latent.parts[0][:, 3].abs().max()  # one symbol is left of this column, and close to going
    with Distortion(weights, loss) as distortion:
        visits = list(descend(distortion, [latent], {}, 6.0, 60, Schedule()))
    assert len(visits) == 60
    assert any(math.isnan(visit.loss) for visit in visits)
    assert math.isfinite(visits[-1].loss)


def test_a_file_found_by_a_soft_descent_is_what_was_measured() -> None:
    generator = torch.Generator().manual_seed(3)
    weights = {"w": torch.randn(40, 30, generator=generator)}
    x = torch.randn(100, 30, generator=generator)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return ((x @ weights["w"].T)[:, :3] - (x @ x.T)[:, :3]).square().mean()

    found = estimate(weights, loss, 1.0, budget=200)
    assert found.within
    assert abs(float(loss(found.coarse_weights())) - float(loss(weights))) <= 1.0


def test_over_parts_of_the_examples_a_descent_ends_where_it_was_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(8, 6, generator=generator)}
    schedule = Schedule(longest_soft=0)

    def ends(parts: Iterator[Tensor | None]) -> tuple[Tensor, Tensor]:
        latent = Latent(skeleton_of(weights).tensors[0], [weights["w"] * 8], math.log(1 / 8))
        with Distortion(weights, lambda given: (given["w"] - weights["w"]).square().mean()) as distortion:
            *_, last = descend(distortion, [latent], {}, 0.1, 20, schedule, parts)
        assert last.tensors is not None
        return latent.coarse().decode(latent.spec), last.tensors[0].decode(latent.spec)

    torch.testing.assert_close(*ends(repeat(torch.arange(4))))
    after, measured = ends(repeat(None))
    assert not torch.equal(after, measured)  # a descent over all of them goes one step further
