"""Training steps: metadata counts more than names, only words that mean a step count, and similar numbers don't."""

import re
from pathlib import PurePath

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nncomplexity.checkpoint import StepRule, find_step, natural_key, step_of, varying
from nncomplexity.checkpoint.stepkeys import number_in
from nncomplexity.checkpoint.stepnames import counts_in
from nncomplexity.errors import InputError


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_000100.safetensors", 100),
        ("epoch=3-step=1200.ckpt", 1200),
        ("epoch=3-val_loss=0.25.ckpt", 3),
        ("STEP-5.pt", 5),
        ("step_1,000.pt", 1000),
        ("step_1,000,000.pt", 1_000_000),
        ("step=-1.pt", None),
        ("step_-1.pt", None),
        ("epoch=-1-step=0.ckpt", 0),
        ("step_-_7.pt", 7),
        ("step--7.pt", 7),
        ("iter_70_loss_3.pt", 70),
        ("net-7.pt", 7),
        ("net_3_9.pth", 9),
        ("12.bin", 12),
        ("model12.pt", 12),
        ("step_1.5.pt", 1.5),
        ("0.5.pt", None),
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
        # what frameworks write
        ("checkpoint_0010.pth.tar", 10),
        ("model_0004999.pth", 4999),
        ("checkpoint_1_500.pt", 500),
        ("checkpoint1.pt", 1),
        ("checkpoint_best.pt", None),
        ("model000100.pt", 100),
        ("ema_0.9999_000100.pt", 100),
        ("g_00000100", 100),
        ("demo_00001000.pth", 1000),
        ("network-snapshot-000400.pkl", 400),
        ("100_net_G.pth", 100),
        ("weights.05-0.32.pt", 5),
        ("model.05.weights.h5", 5),
        ("checkpoint-12.pth.tar", 12),
        ("epoch-1-of-3.pt", 1),
        ("epoch-00001-of-00003.pt", 1),
        ("iter_0001000/mp_rank_00/model_optim_rng.pt", 1000),
        ("iter_0001000/mp_rank_00_001/model_optim_rng.pt", 1000),
        ("checkpoint-500/unet/diffusion_pytorch_model.safetensors", 500),
        ("checkpoint-500/unet/diffusion_pytorch_model.fp16.safetensors", 500),
        ("checkpoint-500/pytorch_lora_weights.safetensors", 500),
        ("1000/weights/model.safetensors", 1000),
        ("1000/default/params.npz", 1000),
        ("name--val_loss=2.50-step=1000-last/weights/model.safetensors", 1000),
        ("step_500/generator.pt", 500),
        ("step_500/best_of_3/generator.pt", None),
        ("step_500/a/b/c/model.pt", None),
        ("ModelEpoch10.pt", 10),
        ("globalStep100.pt", 100),
        ("ckpt_10k.pt", 10_000),
        ("step1000-tokens4B.pt", 1000),
        ("step_1700000000.pt", 1_700_000_000),
        ("step=1200-loss=0.2.ckpt", 1200),
        ("net_at_000070.weights", 70),
        # what isn't a step
        ("best_acc_0.93.pt", None),
        ("model_acc=93.5.pt", None),
        ("model_acc_93.pt", None),
        ("model_acc93.pt", None),
        ("acc=93.pt", None),
        ("net_0.87.pth", None),
        ("best_93.pt", None),
        ("model_f1_93.pt", None),
        ("model_top1_76.pt", None),
        ("model_mAP50_61.pt", None),
        ("v2.pt", None),
        ("model_v2.pt", None),
        ("model-v2.1.pt", None),
        ("model_1.0.3.pt", None),
        ("resnet50.pt", None),
        ("bert-base-v1.1.bin", None),
        ("gpt-2.pt", None),
        ("llama-7b.pt", None),
        ("opt-350m.pt", None),
        ("checkpoint-7b.pt", None),
        ("vit_b_16_224.pth", None),
        ("net_512x512.pt", None),
        ("model_fp16.pt", None),
        ("20240131.pt", None),
        ("model_2024-01-31.pt", None),
        ("model_20240131_123059.pt", None),
        ("model_31.01.2024.pt", None),
        ("checkpoint-20240131.pt", None),
        ("1700000000.pt", None),
        ("model_1700000000.pt", None),
        ("model_2024.pt", None),
        ("2024/model.pt", None),
        ("20240131/model.pt", None),
        ("lr0.001.pt", None),
        ("model_lr_1e-4.pt", None),
        ("model_1e-4.pt", None),
        ("model_seed=3.pt", None),
        ("model_fold_2.pt", None),
        ("run_0001.pt", None),
        ("exp7.pt", None),
        ("model_bs_64.pt", None),
        ("max_steps_1000.pt", None),
        ("num_epochs=10.pt", None),
        ("resnet18-5c106cde.pth", None),
        ("model-a1b20003.pt", None),
        ("seed_3/model.pt", None),
        ("exp-2/best/model.pt", None),
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
        ({"iter_num": "5000", "best_val_loss": "1.2"}, 5000),
        ({"meta.iter": "1200", "meta.epoch": "3"}, 1200),
        ({"epoch": "-1", "optimizer_history.0.num_updates": "5", "optimizer_history.10.num_updates": "90"}, 90),
        ({"args.step": "5", "config.global_step": "9", "max_steps": "100", "num_iters": "8"}, 7),
        ({"Global_Step": "11"}, 11),
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


@given(st.integers(0, 10**15), st.sampled_from(["step_{}", "epoch={}", "e3_step{}", "iter.{}-loss=0.5"]), st.integers(0, 2))
def test_a_number_with_its_word_is_the_number_read(number, form, zeros):
    found = find_step(PurePath(f"{form.format('0' * zeros + str(number))}.ckpt"), {})
    assert (found.value, type(found.value)) == (number, int)


WORDS = st.sampled_from(["acc", "loss", "seed", "fold", "lr", "v", "rank", "version", "bs"])


@given(WORDS, st.integers(0, 999), st.sampled_from(["_", "=", "-", ""]), st.integers(0, 10**6))
def test_a_number_with_another_word_is_no_step_and_hides_none(word, number, between, step):
    label = f"{word}{between}{number}"
    assert step_of({}, PurePath(f"{label}.pt")) is None
    assert step_of({}, PurePath(f"net_{label}.pt")) is None
    assert step_of({}, PurePath(f"step_{step}_{label}.pt")) == step_of({}, PurePath(f"{label}_step_{step}.pt")) == step


@given(st.text("ab19._-=e", max_size=12))
def test_a_count_is_where_it_says_that_it_is(name):
    for count in counts_in(name):
        digits = name[count.start : count.end].replace("_", "")
        assert digits in count.said.replace("_", "")
        assert float(digits) in (count.value, count.value / 1_000)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["G_100", "G_200", "D_100", "D_200"], {"G_100": 100, "G_200": 200, "D_100": 100, "D_200": 200}),
        (["1_resnet50", "2_resnet50"], {"1_resnet50": 1, "2_resnet50": 2}),
        (["a_1_64", "a_2_64"], {"a_1_64": 1, "a_2_64": 2}),
        (["05-0.32", "06-0.30"], {"05-0.32": 5, "06-0.30": 6}),
        (["x3_2024-01-30", "x3_2024-01-31"], {}),
        (["resnet18", "resnet50"], {}),
        (["a_seed1", "a_seed2"], {}),
        (["a_acc_91", "a_acc_93"], {}),
        (["vit_224", "vit_384"], {}),
        (["a_mAP50_61", "a_mAP50_63"], {}),
        (["census_2019", "census_2020"], {}),
        (["a_1_x_2", "a_2_x_1"], {}),
        (["a_1_x_7", "a_2_x_7", "a_2_x_8"], {}),
        (["only_7"], {}),
        ([], {}),
    ],
)
def test_of_names_alike_the_number_that_varies_counts(names, values):
    assert {name: count.value for name, count in varying(names).items()} == values


@pytest.mark.parametrize(
    ("rule", "path", "numbers", "value", "said_by"),
    [
        (StepRule(pattern=r"acc_(\d+)"), "run/acc_93_step_5.pt", {"step": 7}, 93, "name: acc_93"),
        (StepRule(pattern=r"(\d+)"), "run7/ema_0.9999_000100.pt", {}, 100, "name: 000100"),
        (StepRule(pattern=r"at_(\d[\d_]*)"), "at_10_000/model.pt", {}, 10_000, "name: at_10_000"),
        (StepRule(pattern=r"e(\d\.\d)"), "e1.5.npz", {}, 1.5, "name: e1.5"),
        (StepRule(key="hparams.t"), "step_5.pt", {"step": 7, "hparams.t": 3}, 3, "metadata hparams.t"),
        (StepRule(), "step_5.pt", {"step": 7}, 7, "metadata step"),
        (StepRule(), "checkpoint-500/model.pt", {}, 500, "name: checkpoint-500"),
    ],
)
def test_a_rule_of_the_users_goes_first_and_every_step_says_where_it_is_from(rule, path, numbers, value, said_by):
    found = find_step(PurePath(path), numbers, rule)
    assert (found.value, found.said_by) == (value, said_by)


@pytest.mark.parametrize("rule", [StepRule(pattern=r"at_(\d+)"), StepRule(key="absent")])
def test_a_rule_of_the_users_that_finds_nothing_leaves_nothing_to_be_guessed(rule):
    assert find_step(PurePath("step_5.pt"), {"step": 7}, rule) is None


@pytest.mark.parametrize(
    ("given_rule", "words"),
    [
        ({"pattern": "step"}, r"step_pattern: expected a regular expression with a group for the number, such as .*, got 'step'"),
        ({"pattern": "("}, r"step_pattern: expected a regular expression, such as .*, got '\(' \(missing"),
        ({"pattern": 3}, "step_pattern: expected a regular expression, such as .*, got 3"),
        ({"key": ""}, "step_key: expected a dotted path, such as 'meta.iter', got ''"),
        ({"key": 3}, "step_key: expected a dotted path, such as 'meta.iter', got 3"),
        ({"key": "a", "pattern": "(a)"}, "step_key: expected only this or step_pattern, got both; leave one out"),
    ],
)
def test_a_rule_that_is_none_is_refused(given_rule, words):
    with pytest.raises(InputError, match=words):
        StepRule(**given_rule)


def test_a_pattern_that_finds_no_number_is_refused():
    with pytest.raises(
        InputError, match=r"step_pattern: expected the first group of '\(b..t\)' to be a number, got 'best' in 'run/best.pt'"
    ):
        find_step(PurePath("run/best.pt"), {}, StepRule(pattern="(b..t)"))


def test_the_state_of_a_trainer_goes_before_the_name():
    found = find_step(PurePath("best/model.safetensors"), {}, trainer={"global_step": 500, "epoch": 1.0})
    assert (found.value, found.said_by) == (500, "trainer_state.json global_step")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (torch.tensor(3), 3),
        (torch.tensor([2.5]), 2.5),
        (torch.tensor(700.0), 700),
        ("3.0", 3),
        (10**400, None),
        (-(10**18), None),
        (float("-inf"), None),
        (torch.ones(2), None),
        (torch.tensor(True), None),
        (torch.tensor(1j), None),
        (torch.tensor(float("nan")), None),
        (torch.eye(1).to_sparse(), None),
        (torch.ones(1, device="meta"), None),
        ([3], None),
        (None, None),
    ],
)
def test_what_is_a_number(value, number):
    found = number_in(value)
    assert (found, type(found)) == (number, type(number))


@given(st.lists(st.integers(0, 10**9)))
def test_numbered_names_sort_by_number(numbers):
    paths = [PurePath(f"run/epoch_{number}.pt") for number in numbers]
    assert sorted(paths, key=natural_key) == [PurePath(f"run/epoch_{number}.pt") for number in sorted(numbers)]


PATHS = st.text("ab01_./", max_size=8).map(PurePath)


@given(PATHS, PATHS)
def test_paths_that_differ_in_more_than_zeros_have_different_keys(one, other):
    bare = [re.sub(r"0*([0-9])", r"\1", str(path)) for path in (one, other)]
    assert (natural_key(one) == natural_key(other)) == (bare[0] == bare[1])
