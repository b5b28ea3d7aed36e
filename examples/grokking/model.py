"""The decoder of DeMoss et al. 2025, Table 1: post-LayerNorm, learned positions, no mask, an output layer of its own.

It reads ⟨a⟩⟨∘⟩⟨b⟩⟨=⟩ and predicts the next token. Shapes: B examples, T = 4 positions, d = `d_model`, V = p+2 tokens.

Two facts make it several times faster than a general decoder with the same result. Only the prediction at the last position is
needed, so the last layer computes nothing else. And the inputs of the first layer are V·T sums of a token's and a position's
vector, so its projections are computed once for this table, and each example takes its rows from it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from nncomplexity.errors import InputError

POSITIONS = 4
ATTENTIONS = ("proper", "summed")

Project = Callable[[nn.Linear, int], Tensor]
"""(linear, first) → linear applied to the positions from `first` on, (B, T − first, d)."""


class Attention(nn.Module):
    """Multi-head attention over all positions, or the sum that the authors' released code computes instead.

    `proper`: softmax(q kᵀ/√d_head) v for each head. `summed`: the released code contracts the attention weights and the values over
    different indices. Because the weights of a query sum to 1, each position gets Σ_t v_t, and queries and keys have no effect.
    """

    def __init__(self, d_model: int, heads: int, kind: str) -> None:
        super().__init__()
        if kind not in ATTENTIONS:
            raise InputError(f"attention: expected one of {', '.join(ATTENTIONS)}, got {kind!r}")
        if d_model % heads:
            raise InputError(f"heads: d_model = {d_model} must be a multiple of the number of heads, got {heads}")
        self.heads = heads
        self.kind = kind
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, project: Project, first: int) -> Tensor:
        if self.kind == "summed":
            return self.out(project(self.value, 0).sum(1, keepdim=True))
        queries = self._by_head(project(self.query, first))
        keys, values = self._by_head(project(self.key, 0)), self._by_head(project(self.value, 0))
        return self.out(functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d_head)


class Block(nn.Module):
    """x ← LN(x + attention(x)), then x ← LN(x + MLP(x)), at the positions from `first` on."""

    def __init__(self, d_model: int, heads: int, d_mlp: int, attention: str) -> None:
        super().__init__()
        self.attention = Attention(d_model, heads, attention)
        self.norm1 = nn.LayerNorm(d_model, eps=1e-6)
        self.up = nn.Linear(d_model, d_mlp)
        self.down = nn.Linear(d_mlp, d_model)
        self.norm2 = nn.LayerNorm(d_model, eps=1e-6)

    def forward(self, x: Tensor, project: Project, first: int) -> Tensor:
        x = self.norm1(x[:, first:] + self.attention(project, first))
        return self.norm2(x + self.down(functional.gelu(self.up(x), approximate="tanh")))


class Decoder(nn.Module):
    """Tokens (B, 4) → logits (B, V) of the token after the last.

    Initial weights are normal, with variance 1/fan-in in the layers, and biases are zero, as in the released code. Its tables have
    variance 1/d, and so have ours for summed attention. For proper attention ours are half as large: at full size the attention
    scores depend on the operands' positions from the start, and training takes up to half as long again to find the rule.

    >>> model = Decoder(vocabulary=115, generator=torch.Generator().manual_seed(0))
    >>> sum(parameter.numel() for parameter in model.parameters())
    228339
    >>> model(torch.tensor([[3, 113, 4, 114]])).shape
    torch.Size([1, 115])
    """

    def __init__(
        self,
        vocabulary: int,
        generator: torch.Generator,
        *,
        layers: int = 1,
        d_model: int = 128,
        heads: int = 4,
        d_mlp: int = 512,
        attention: str = "proper",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.position = nn.Embedding(POSITIONS, d_model)
        self.blocks = nn.ModuleList(Block(d_model, heads, d_mlp, attention) for _ in range(layers))
        self.output = nn.Linear(d_model, vocabulary)
        table_size = 1.0 if attention == "summed" else 0.5
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=table_size * d_model**-0.5, generator=generator)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        rows = tokens + self.embedding.num_embeddings * torch.arange(POSITIONS, device=tokens.device)
        x = _look_up(rows, self.embedding.weight, self.position.weight)
        for index, block in enumerate(self.blocks):
            project = _project_states(x) if index else self._project_tables(rows)
            x = block(x, project, first=POSITIONS - 1 if index == len(self.blocks) - 1 else 0)
        return self.output(x[:, -1])

    def _project_tables(self, rows: Tensor) -> Project:
        def project(linear: nn.Linear, first: int) -> Tensor:
            by_token = functional.linear(self.embedding.weight, linear.weight)
            return _look_up(rows[:, first:], by_token, linear(self.position.weight))

        return project


def _project_states(x: Tensor) -> Project:
    return lambda linear, first: linear(x[:, first:])


def _look_up(rows: Tensor, by_token: Tensor, by_position: Tensor) -> Tensor:
    """by_token[token] + by_position[position] for each of the rows V·position + token."""
    table = by_token + by_position.unsqueeze(1)  # (T, V, d)
    return functional.embedding(rows, table.flatten(0, 1))
