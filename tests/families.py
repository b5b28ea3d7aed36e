"""Small networks of many families, built as their users build them. `tests/measure/test_families.py` measures them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

Network = nn.Module


@dataclass(frozen=True)
class Family:
    """One kind of network.

    `build` makes a network, in the state in which it is measured. `inputs` makes a batch. `loss` takes the network and the batch; by
    default, it is the distance between the outputs and those of the original network.
    """

    build: Callable[[], Network]
    inputs: Callable[[], object]
    loss: Callable[[Network, object], Tensor | float] | None = None
    eps: float = 0.02


def stacked(*layers: object) -> Callable[[], Network]:
    """A function that makes these layers, one after another. A layer is a module class with its arguments, or a function."""
    return lambda: nn.Sequential(*(layer() if callable(layer) else layer[0](*layer[1:]) for layer in layers))


class Function(nn.Module):
    """A function of the output as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def rows(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape)


def tokens(*shape: int, most: int = 11) -> Callable[[], Tensor]:
    return lambda: torch.randint(most, shape)


def in_eval(build: Callable[[], Network]) -> Callable[[], Network]:
    return lambda: build().eval()


class Block(nn.Module):
    """A residual block. With as many `groups` as channels, it is depthwise-separable."""

    def __init__(self, channels: int = 6, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.norm1, self.point, self.norm2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.point(F.relu(self.norm1(self.conv(x))))))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([x, self.up(self.middle(F.relu(self.down(x))).relu())], 1))


class VAE(nn.Module):
    """A network that draws random numbers in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(10, 8), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_var = self.encoder(x).chunk(2, -1)
        return self.decoder(mean + torch.randn_like(mean) * (log_var / 2).exp())


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = kind(5, 6, num_layers=2, bidirectional=True, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cross = nn.MultiheadAttention(8, 2, kdim=8, vdim=6, batch_first=True, bias=False, add_bias_kv=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.cross(x, x, x[..., :6], need_weights=False)[0]


class GPT(nn.Module):
    """A network like GPT-2: fused qkv, a causal mask of infinities in a buffer, and embeddings tied to the output."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.norm, self.qkv, self.project, self.mlp = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.token.weight
        self.register_buffer("mask", torch.full((6, 6), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.position.weight[: x.shape[1]]
        q, k, v = self.qkv(self.norm(h)).chunk(3, -1)
        h = h + self.project((q @ k.mT / 8**0.5 + self.mask).softmax(-1) @ v)
        return self.head(h + F.gelu(self.mlp(h)))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.first = nn.Conv2d(1, 8, 4, stride=4), nn.Parameter(torch.randn(1, 1, 8))
        self.place = nn.Parameter(torch.randn(1, 5, 8) / 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).mT
        return self.head(self.layer(torch.cat([self.first.expand(len(x), 1, 8), patches], 1) + self.place)[:, 0])


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.over_places, self.over_channels = nn.LayerNorm(6), nn.Linear(4, 4), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_places(self.norm(x).mT).relu().mT
        return x + self.over_channels(x).relu()


class Graph(nn.Module):
    """Graph convolutions with a dense adjacency matrix, in a buffer of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 6), nn.Linear(6, 3)])
        self.register_buffer("adjacency", (torch.arange(7)[:, None] - torch.arange(7)).abs() <= 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(self.adjacency.float() @ x / 3))
        return x


class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = (
            nn.ParameterList([torch.randn(4, 6)]),
            nn.ParameterDict({"out": torch.randn(6, 2), "none": torch.zeros(0)}),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.each[0]).relu().mean(1) @ self.all["out"]


class FakeQuantized(nn.Module):
    """Quantization-aware training: weights and activations pass through torch.ao's fake quantizers, whose observers have buffers."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.ao.quantization import default_fake_quant, default_weight_fake_quant

            self.quant, self.weight_quant, self.unused = default_fake_quant(), default_weight_fake_quant(), default_fake_quant()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.quant(F.relu(F.linear(x, self.weight_quant(self.first.weight), self.first.bias)))
        return self.second(h)


class LoRA(nn.Module):
    """A frozen matrix, and the two factors that were learned in addition."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.A, self.B = nn.Linear(8, 8), nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2) / 4)
        self.base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.A.T @ self.B.T


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(4, 5, dtype=torch.complex64))
        self.turn = nn.Parameter(torch.tensor(0.6 + 0.8j))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * self.filter * self.turn, n=8)


class StateSpace(nn.Module):
    """A small selective scan like Mamba's: decay and inputs depend on the token."""

    def __init__(self) -> None:
        super().__init__()
        self.log_A, self.D = nn.Parameter(torch.rand(6, 3)), nn.Parameter(torch.ones(6))
        self.select, self.conv = nn.Linear(6, 6 + 3 + 3), nn.Conv1d(6, 6, 3, padding=2, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        u = F.silu(self.conv(x.mT)[..., : x.shape[1]].mT)
        step, B, C = self.select(u).split([6, 3, 3], -1)
        state, out = x.new_zeros(len(x), 6, 3), []
        for t in range(x.shape[1]):
            rate = F.softplus(step[:, t])[..., None]
            state = state * torch.exp(-rate * self.log_A.exp()) + rate * u[:, t][..., None] * B[:, t][:, None]
            out.append((state * C[:, t][:, None]).sum(-1) + self.D * u[:, t])
        return torch.stack(out, 1)


class HyperNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maker, self.code = nn.Linear(3, 5 * 4), nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.maker(self.code).view(5, 4)


class Experts(nn.Module):
    """One of three experts for each row. The choice of the expert has no gradient, and jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(5, 3), nn.ModuleList([nn.Linear(5, 4) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.gate(x).softmax(-1).max(-1)
        return torch.stack([self.experts[i](row) for i, row in zip(chosen.tolist(), x, strict=True)]) * weight[:, None]


class Siamese(nn.Module):
    """A network that has the same part under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
        self.right = self.left

    def forward(self, x: Tensor) -> Tensor:
        return (self.left(x) - self.right(x.flip(0))).square().sum(-1)


class Scalars(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.tensor(value)) for value in (1.7, -0.3, 0.05))
        self.register_buffer("calls", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * torch.sin(x + self.b) + self.c


class Table(nn.Module):
    """A table of whole numbers, from which rows are taken and weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randint(-100, 100, (11, 4), dtype=torch.int16))
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.codes[x].float() / 100 @ self.weight


class Hooked(nn.Module):
    """A network whose state dict has copies in half precision and an entry that is no tensor. Buffers are replaced and left out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self._register_state_dict_hook(
            lambda module, state, prefix, _: state.update({f"{prefix}inner.weight": module.inner.weight.half()})
        )

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: object) -> None:
        assert state == {"version": 2}

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * self.inner(x).mean(0).detach()
        return self.inner(x) - self.mean


def halved(dtype: torch.dtype) -> Family:
    build = stacked((nn.Linear, 6, 8), nn.Tanh, (nn.Linear, 8, 3))
    return Family(lambda: build().to(dtype), lambda: torch.randn(20, 6).to(dtype))


def old_weight_norm() -> Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.utils.spectral_norm(nn.Linear(8, 3)))


def errors(network: Network, batch: object) -> float:
    """A loss that is a share of examples, without a gradient."""
    assert isinstance(batch, Tensor)
    return float((network(batch).argmax(-1) != batch.sum(-1).long() % 3).double().mean())


LINEAR = [(nn.Linear, 6, 8), nn.Tanh, (nn.Linear, 8, 3)]
FAMILIES = {
    "mlp": Family(stacked(*LINEAR), rows(20, 6)),
    "mlp, error rate": Family(stacked(*LINEAR), rows(40, 6), errors, eps=0.1),
    "vgg": Family(
        stacked((nn.Conv2d, 1, 4, 3), nn.ReLU, (nn.MaxPool2d, 2), (nn.Conv2d, 4, 6, 3), nn.ReLU, nn.Flatten, (nn.Linear, 6, 3)),
        rows(6, 1, 8, 8),
    ),
    "conv1d and conv3d": Family(
        stacked((nn.Conv1d, 2, 4, 3), nn.ReLU, (nn.Unflatten, 2, (1, 2, 3)), (nn.Conv3d, 4, 3, (1, 2, 2))), rows(6, 2, 8)
    ),
    "resnet": Family(in_eval(stacked((nn.Conv2d, 1, 6, 3), Block, Block, nn.Flatten)), rows(4, 1, 6, 6)),
    "resnet, batch statistics": Family(stacked((nn.Conv2d, 1, 6, 3), Block, nn.Flatten), rows(6, 1, 6, 6)),
    "mobilenet": Family(in_eval(stacked((nn.Conv2d, 1, 6, 3), (Block, 6, 6), nn.Flatten)), rows(4, 1, 6, 6)),
    "u-net": Family(UNet, rows(3, 1, 8, 8)),
    "convolutional autoencoder": Family(
        stacked((nn.Conv2d, 1, 4, 3, 2), nn.ReLU, (nn.ConvTranspose2d, 4, 1, 3, 2)), rows(4, 1, 7, 7)
    ),
    "vae": Family(VAE, rows(12, 10), lambda net, x: F.mse_loss(net(x), x)),
    "lstm": Family(lambda: Recurrent(nn.LSTM), rows(6, 4, 5)),
    "gru": Family(lambda: Recurrent(nn.GRU), rows(6, 4, 5)),
    "rnn": Family(lambda: Recurrent(nn.RNN), rows(6, 4, 5)),
    "attention": Family(Attention, rows(5, 4, 8)),
    "transformer encoder": Family(
        in_eval(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)), rows(4, 5, 8)
    ),
    "gpt-2, tied": Family(GPT, tokens(6, 6), eps=0.3),
    "vision transformer": Family(in_eval(ViT), rows(4, 1, 8, 8)),
    "mlp-mixer": Family(Mixer, rows(5, 4, 6)),
    "graph network": Family(Graph, rows(4, 7, 5)),
    "embedding bag": Family(stacked((nn.EmbeddingBag, 11, 6), (nn.Linear, 6, 3)), tokens(10, 5)),
    "deep sets": Family(DeepSets, rows(6, 5, 4)),
    "weight norm": Family(lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3)), rows(20, 6)),
    "weight norm and spectral norm by hooks": Family(in_eval(old_weight_norm), rows(20, 6)),
    "spectral norm": Family(lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 8)), nn.Linear(8, 3)), rows(20, 6)),
    "orthogonal": Family(lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 6)), nn.Linear(6, 3)), rows(20, 6)),
    "quantization-aware": Family(FakeQuantized, rows(20, 6)),
    "lora": Family(LoRA, rows(20, 8)),
    "complex": Family(Complex, rows(6, 4, 8)),
    "state space": Family(StateSpace, rows(4, 5, 6)),
    "hypernetwork": Family(HyperNetwork, rows(10, 5)),
    "mixture of experts": Family(Experts, rows(20, 5)),
    "siamese": Family(Siamese, rows(20, 5)),
    "float64": halved(torch.float64),
    "bfloat16": halved(torch.bfloat16),
    "float16": halved(torch.float16),
    "table of integers": Family(Table, tokens(20)),
    "scalars": Family(Scalars, rows(30)),
    "state dict hooks": Family(Hooked, rows(20, 6)),
    "normalization": Family(
        stacked((nn.Conv2d, 1, 4, 3), (nn.GroupNorm, 2, 4), (nn.InstanceNorm2d, 4, 1e-5, 0.1, True, True), nn.PReLU, nn.Flatten),
        rows(4, 1, 6, 6),
    ),
}
