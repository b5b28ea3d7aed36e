"""Small trained networks whose tensors have several plausible layouts: fused projections, gates, and wide convolutions.

`encoder` and `gpt` learn to sort sequences of `LENGTH` symbols of `SYMBOLS`, drawn anew at every step. `encoder` predicts all sorted
symbols at once, and has `nn.MultiheadAttention` with its fused `in_proj_weight` (3·d, d). `gpt` is causal and predicts one symbol after the
other; its `c_attn` is stored (d, 3·d) as in GPT-2. `lstm` reads handwritten digits row by row, with four gates in each matrix. `convnet`
reads whole images, with kernels of 5×5 and 3×3.

Two have structure by construction. `separable` is the convnet, trained with kernels that act along the height and then along the width, each
a product of few filters. `adapter` is the difference that low-rank adapters of queries and values made to an encoder's fused projections
when it learned to sort in descending order.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import conv2d, cross_entropy, scaled_dot_product_attention

from benchmarks.cases.networks import Case, Weights
from examples.digits.task import CLASSES, split

SYMBOLS, LENGTH = 12, 8
HEADS = 4
EXAMPLES = 192
"""The number of examples in the measured loss: few, so that an evaluation takes milliseconds."""
Examples = tuple[Tensor, Tensor]
Draw = Callable[[torch.Generator], Examples]


class Multihead(nn.Module):
    """Self-attention by PyTorch's module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Causal(nn.Module):
    """Self-attention as GPT-2 has it: matrices are stored (in, out), and one of them holds queries, keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_attn = nn.Parameter(torch.randn(width, 3 * width) * width**-0.5)
        self.c_proj = nn.Parameter(torch.randn(width, width) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        heads = (x @ self.c_attn).unflatten(-1, (3, HEADS, -1))
        q, k, v = (part.transpose(1, 2) for part in heads.unbind(-3))
        return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2) @ self.c_proj


class Block(nn.Module):
    """A transformer's layer with layer norms before attention and MLP."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Symbols (n, length) to logits (n, length, `SYMBOLS`)."""

    def __init__(self, length: int, width: int, layers: int, attention: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(SYMBOLS, width), nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, attention(width)) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions)))


class Separable(nn.Module):
    """A convolution whose kernel (out, in, k, k) is a product of filters along the height and along the width."""

    def __init__(self, inputs: int, outputs: int, side: int, rank: int) -> None:
        super().__init__()
        self.vertical = nn.Parameter(torch.randn(outputs, side, rank) * 0.7 * (outputs * side) ** -0.25)
        self.horizontal = nn.Parameter(torch.randn(rank, inputs, side) * 0.7 * (inputs * side) ** -0.25)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def kernel(self) -> Tensor:
        return torch.einsum("ohr,riw->oihw", self.vertical, self.horizontal)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.kernel(), self.bias, padding=self.vertical.shape[1] // 2)


class Recurrent(nn.Module):
    """Images (n, 1, 8, 8), a row at a time, to logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 48, num_layers=2, batch_first=True), nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.squeeze(1))[0][:, -1])


def convnet() -> nn.Module:
    """Images (n, 1, 8, 8) to logits (n, 10), by kernels of 5×5, 5×5 and 3×3."""
    return _convnet(lambda inputs, outputs, side: nn.Conv2d(inputs, outputs, side, padding=side // 2))


def separable() -> nn.Module:
    """The same with kernels that are products of three filters along each side, in the first layer of two."""
    return _convnet(lambda inputs, outputs, side: Separable(inputs, outputs, side, 2 if inputs == 1 else 3))


def _convnet(convolution: Callable[[int, int, int], nn.Module]) -> nn.Module:
    return nn.Sequential(
        *(convolution(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(convolution(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(convolution(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, CLASSES)),
    )


def multiplied_out(network: nn.Module) -> nn.Module:
    """A trained `separable` network as an ordinary convnet."""
    plain = convnet()
    for module, trained in zip(plain.children(), network.children(), strict=True):
        if isinstance(trained, Separable) and isinstance(module, nn.Conv2d):
            module.load_state_dict({"weight": trained.kernel(), "bias": trained.bias})
        else:
            module.load_state_dict(trained.state_dict())
    return plain


def sorting(generator: torch.Generator, count: int = EXAMPLES) -> Examples:
    """Sequences and their sorted copies, both (count, `LENGTH`)."""
    drawn = torch.randint(SYMBOLS, (count, LENGTH), generator=generator)
    return drawn, drawn.sort(1).values


def descending(generator: torch.Generator) -> Examples:
    """Sequences and their copies sorted in descending order."""
    drawn, ordered = sorting(generator)
    return drawn, ordered.flip(1)


def continuing(generator: torch.Generator) -> Examples:
    """A sequence followed by its sorted symbols without the last, and the next symbol at each place; −100 (no target) within the sequence."""
    drawn, ordered = sorting(generator, EXAMPLES // 2)
    return torch.cat([drawn, ordered[:, :-1]], 1), torch.cat([torch.full_like(drawn[:, 1:], -100), ordered], 1)


def digits(generator: torch.Generator) -> Examples:
    images, labels = split("train")
    rows = torch.randperm(len(images), generator=generator)[:EXAMPLES]
    return images[rows], labels[rows]


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained."""

    build: Callable[[], nn.Module]
    draw: Draw
    steps: int
    finish: Callable[[nn.Module], nn.Module] = lambda network: network
    """The map from the trained network to the measured one."""

    def trained(self, name: str, seed: int) -> Case:
        """The network after `steps` of AdamW, with its loss on `EXAMPLES` examples."""
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        network = self.build()
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=self.steps)
        for _ in range(self.steps):
            inputs, targets = self.draw(generator)
            optimizer.zero_grad()
            mean_loss(network(inputs), targets).backward()
            optimizer.step()
            schedule.step()
        network = self.finish(network)
        weights = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
        inputs, targets = self.draw(torch.Generator().manual_seed(1000 + seed))

        def loss(weights: Weights) -> Tensor:
            return mean_loss(functional_call(network, dict(weights), (inputs,)), targets)

        return Case(f"{name}/{seed}", digest(weights), weights, loss)


@dataclass(frozen=True)
class Adapter:
    """What low-rank adapters add to the fused projections of a trained encoder. The loss of these differences is that of the tuned network."""

    encoder: Recipe
    rank: int
    steps: int

    def trained(self, name: str, seed: int) -> Case:
        base = self.encoder.trained("encoder", seed).weights
        network = self.encoder.build()
        fused = [key for key in base if key.endswith("in_proj_weight")]
        torch.manual_seed(1000 + seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        width = base[fused[0]].shape[1]
        adapters = {key: (torch.zeros(2, width, self.rank), 0.3 * torch.randn(2, self.rank, width)) for key in fused}
        parameters = [part.requires_grad_() for pair in adapters.values() for part in pair]
        optimizer = torch.optim.Adam(parameters, lr=1e-2)

        def differences() -> dict[str, Tensor]:
            products = {key: B @ A for key, (B, A) in adapters.items()}
            return {key: torch.cat([both[0], torch.zeros(width, width), both[1]]) for key, both in products.items()}

        def loss_on(changes: Weights, examples: Examples) -> Tensor:
            tuned = base | {key: base[key] + change for key, change in changes.items()}
            return mean_loss(functional_call(network, tuned, (examples[0],)), examples[1])

        for _ in range(self.steps):
            optimizer.zero_grad()
            loss_on(differences(), descending(generator)).backward()
            optimizer.step()
        weights = {key: change.detach().clone() for key, change in differences().items()}
        examples = descending(torch.Generator().manual_seed(2000 + seed))
        return Case(f"{name}/{seed}", digest(weights), weights, lambda changes: loss_on(changes, examples))


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of logits whose last axis is the classes."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def digest(weights: Weights) -> str:
    """The SHA-256 of all tensors' elements, in the order of their names."""
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


ENCODER = Recipe(lambda: Transformer(LENGTH, 32, 2, Multihead), sorting, 1500)
RECIPES: dict[str, Recipe | Adapter] = {
    "encoder": ENCODER,
    "gpt": Recipe(lambda: Transformer(2 * LENGTH - 1, 64, 1, Causal), continuing, 1500),
    "lstm": Recipe(Recurrent, digits, 1000),
    "convnet": Recipe(convnet, digits, 400),
    "separable": Recipe(separable, digits, 400, multiplied_out),
    "adapter": Adapter(ENCODER, rank=2, steps=600),
}
