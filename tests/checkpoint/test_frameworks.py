"""Checkpoints of training frameworks: the network and the training step in them are found."""

import argparse
import pathlib
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nncomplexity.checkpoint import load_checkpoint, save_safetensors

MODULE = nn.Linear(4, 3)
WEIGHTS = MODULE.state_dict()
OPTIMIZER = {"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.ones(3, 4)}}, "param_groups": [{"lr": 0.1}]}


class Attributes(dict):
    """A dictionary with attributes, in which frameworks keep options."""

    __getattr__ = dict.__getitem__


class Buffer:
    """A training history with arrays and functions in it."""

    def __init__(self) -> None:
        self.log, self.how = np.ones(3), {"mean": np.mean}


class Config:
    def __getstate__(self) -> dict[str, int]:
        return {"content": 1}

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("its code was run")


LAYOUTS: dict[str, tuple[str, Any, float | None]] = {
    "Lightning": (
        "epoch=3-step=1200-v1.ckpt",
        {
            "epoch": 3,
            "global_step": 1201,
            "state_dict": WEIGHTS,
            "hyper_parameters": Attributes(lr=0.1, head=nn.Linear(1, 1)),
            "optimizer_states": [OPTIMIZER],
            "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.Path("a.ckpt"), "step": 4}},
        },
        1201,
    ),
    "DeepSpeed": (
        "global_step1000/mp_rank_00_model_states.pt",
        {"module": WEIGHTS, "global_steps": 1000, "global_samples": 64_000, "ds_config": {"step": 3}, "dtype": torch.float16},
        1000,
    ),
    "fairseq": (
        "checkpoint_1_500.pt",
        {
            "cfg": Config(),
            "model": WEIGHTS,
            "optimizer_history": [{"num_updates": 20}, {"num_updates": 500}],
            "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 7}},
            "last_optimizer_state": OPTIMIZER,
        },
        500,
    ),
    "fairseq, by name": ("checkpoint_1_500.pt", {"model": WEIGHTS}, 500),
    "timm": (
        "model_best.pth.tar",
        {"epoch": 12, "arch": "x", "state_dict": WEIGHTS, "state_dict_ema": {}, "args": argparse.Namespace(), "metric": 93.5},
        12,
    ),
    "ultralytics": (
        "best.pt",
        {"epoch": -1, "model": MODULE, "ema": None, "train_args": {"epochs": 100}, "date": "2024-01-31"},
        None,
    ),
    "detectron2": (
        "model_final.pth",
        {"model": WEIGHTS, "optimizer": OPTIMIZER, "scheduler": {"last_epoch": 7}, "iteration": 4999},
        4999,
    ),
    "OpenMMLab": (
        "epoch_12.pth",
        {"meta": {"epoch": 12, "iter": 7000, "cfg": Attributes()}, "state_dict": WEIGHTS, "message_hub": {"log": Buffer()}},
        7000,
    ),
    "guided diffusion": ("ema_0.9999_000100.pt", WEIGHTS, 100),
    "k-diffusion": ("demo_00001000.pth", {"model": WEIGHTS, "model_ema": {}, "opt": OPTIMIZER, "epoch": 3, "step": 999}, 999),
    "Megatron": (
        "iter_0001000/mp_rank_00/model_optim_rng.pt",
        {"args": argparse.Namespace(iteration=3), "model": WEIGHTS, "rng_state": [{"np": np.random.get_state()}]},
        1000,
    ),
    "transformers": ("checkpoint-500/pytorch_model.bin", WEIGHTS, 500),
    "diffusers": ("checkpoint-500/unet_ema/diffusion_pytorch_model.bin", WEIGHTS, 500),
    "nanoGPT": (
        "ckpt.pt",
        {"model": WEIGHTS, "iter_num": 5000, "best_val_loss": torch.tensor(1.2), "config": {"max_iters": 9}},
        5000,
    ),
    "a tensor": ("last.pt", {"model": WEIGHTS, "step": torch.tensor(700.0)}, 700),
    "CycleGAN": ("100_net_G_A.pth", WEIGHTS, 100),
    "Stable-Baselines": ("ppo_1000000_steps.pt", WEIGHTS, 1_000_000),
    "OpenMMLab's zoo": ("resnet50_8xb32_in1k_20210831-ea4938fc.pth", {"meta": {"env_info": "x"}, "state_dict": WEIGHTS}, None),
    "torchvision": ("vit_b_16-c867db91.pth", OrderedDict(WEIGHTS), None),
    "hydra": ("outputs/2024-01-31/12-30-59/model.pt", WEIGHTS, None),
    "a state dict with a seed": ("last.pt", {"state_dict": WEIGHTS, "seed": 3, "version": 2, "best_acc": 0.93, "lr": 1e-4}, None),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_network_and_its_step_are_found(tmp_path: pathlib.Path, name: str) -> None:
    path, content, step = LAYOUTS[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, tmp_path / path)
    checkpoint = load_checkpoint(tmp_path / path)
    assert (checkpoint.step, type(checkpoint.step)) == (step, type(step))
    assert checkpoint.tensors.keys() == WEIGHTS.keys()
    assert all(torch.equal(checkpoint.tensors[key], tensor) for key, tensor in WEIGHTS.items())


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("checkpoint-500/pytorch_lora_weights.safetensors", 500),
        ("nemo/1000/weights/model.safetensors", 1000),
        ("tuned/best/model.safetensors", None),
    ],
)
def test_a_safetensors_file_has_the_step_of_its_folder(tmp_path: pathlib.Path, path: str, step: int | None) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    save_safetensors(tmp_path / path, WEIGHTS)
    assert load_checkpoint(tmp_path / path).step == step
