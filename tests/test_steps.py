"""Steps: from metadata before names, from the words that mean them, and from nothing that only looks like one."""

import re
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.steps import natural_key, step_of


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_000100.safetensors", 100),
        ("epoch=3-step=1200.ckpt", 1200),
        ("epoch=3-val_loss=0.25.ckpt", 3),
        ("STEP-5.pt", 5),
        ("iter_70_loss_3.pt", 70),
        ("net-7.pt", 7),
        ("net_3_9.pth", 9),
        ("12.bin", 12),
        ("model12.pt", 12),
        ("step_1.5.pt", 1.5),
        ("0.5.pt", 0.5),
        ("step_10_000.pt", 10_000),
        ("step_1_000_000.pt", 1_000_000),
        ("step10k.pt", 10_000),
        ("step_1.5k.pt", 1500),
        ("steps=2M.ckpt", 2_000_000),
        ("500steps.pt", 500),
        ("net_500_iters.pt", 500),
        ("net_10kstep.pt", 10_000),
        ("epoch_3_500steps.pt", 500),
        ("3_step_1200.pt", 1200),
        ("model_500_seed3.pt", 500),
        ("seed_3_model500.pt", 500),
        ("seed3.pt", None),
        ("net_rank0.pt", None),
        ("model.10.safetensors", 10),
        ("ckpt.1000.pt", 1000),
        ("step.20.pt", 20),
        ("last.pt", None),
        ("net-f37072fd.pth", None),
        ("footstep.pt", None),
        ("checkpoint-500/model.safetensors", 500),
        ("checkpoint-500/pytorch_model.bin", 500),
        ("checkpoint-500/adapter_model.safetensors", 500),
        ("checkpoint-500/model.safetensors.index.json", 500),
        ("checkpoint-500/model-00001-of-00002.safetensors", 500),
        ("global_step1000/model.pt", 1000),
        ("epoch=4/model.pt", 4),
        ("global_step1000/mp_rank_00_model_states.pt", 1000),
        ("step500/ema.pt", 500),
        ("step-500/consolidated.00.pth", 500),
        ("step-500/consolidated.pth", 500),
        ("run/mp_rank_00_model_states.pt", None),
        ("500/model.pt", 500),
        ("checkpoint-500/best.pt", None),
        ("checkpoint-500/epoch_2.pt", 2),
        ("gpt-2/model.safetensors", None),
        ("Llama-3.2-1B/model.safetensors", None),
        ("snapshots/3ab45f99/model.safetensors", None),
        ("model.safetensors", None),
    ],
)
def test_a_name_tells_the_step(name, step):
    found = step_of({}, PurePath(name))
    assert (found, type(found)) == (step, type(step))


@pytest.mark.parametrize(
    ("metadata", "step"),
    [
        ({"step": "20"}, 20),
        ({"epoch": "3", "step": "20", "global_step": "40"}, 40),
        ({"epoch": "3", "iteration": "8"}, 8),
        ({"epoch": "1.5"}, 1.5),
        ({"epoch": "3", "step": "many"}, 3),
        ({"step": "-1"}, 7),
        ({"step": "nan"}, 7),
        ({"step": "1e999"}, 7),
        ({"step": "True"}, 7),
        ({"format": "pt"}, 7),
    ],
)
def test_metadata_come_before_the_name(metadata, step):
    assert step_of(metadata, PurePath("net-7.pt")) == step


@pytest.mark.parametrize(
    ("name", "step"), [("step_1000.pt", 1000), ("iter_8/model.pt", 8), ("epoch_9.pt", 3), ("net-7.pt", 3), ("last.pt", 3)]
)
def test_an_epoch_of_the_metadata_is_no_step_where_the_name_tells_one(name, step):
    assert step_of({"epoch": "3"}, PurePath(name)) == step
    assert step_of({"epoch": "3", "global_step": "20"}, PurePath(name)) == 20


@given(st.integers(0, 10**15), st.sampled_from(["step_{}", "epoch={}", "net-{}", "e3_step{}", "{}"]), st.integers(0, 6))
def test_a_number_written_is_the_number_read(number, form, zeros):
    assert step_of({}, PurePath(f"{form.format('0' * zeros + str(number))}.ckpt")) == number


@given(st.lists(st.integers(0, 10**9)))
def test_numbered_names_sort_by_number(numbers):
    paths = [PurePath(f"run/epoch_{number}.pt") for number in numbers]
    assert sorted(paths, key=natural_key) == [PurePath(f"run/epoch_{number}.pt") for number in sorted(numbers)]


PATHS = st.text("ab01_./", max_size=8).map(PurePath)


@given(PATHS, PATHS)
def test_paths_that_differ_in_more_than_zeros_have_different_keys(one, other):
    bare = [re.sub(r"0*([0-9])", r"\1", str(path)) for path in (one, other)]
    assert (natural_key(one) == natural_key(other)) == (bare[0] == bare[1])
