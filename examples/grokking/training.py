"""The training loop: AdamW on the cross-entropy of the answer, with weight noise and the spectral penalty if the configuration has them."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from examples.grokking.config import Config
from examples.grokking.data import Examples
from nncomplexity.errors import InputError
from nncomplexity.linalg import effective_rank
from nncomplexity.training import spectral_entropy_penalty, weight_noise


class Trainer:
    """The network, its optimiser and its random streams. Together they determine all later epochs.

    A trainer with a restored state continues exactly as the trainer that the state was taken from: on a CPU the results are equal to the bit.

    >>> from examples.grokking.config import preset
    >>> trainer = Trainer(preset("quick"))
    >>> trainer.train_epoch()
    >>> trainer.epoch, trainer.updates
    (1, 3)
    """

    def __init__(self, config: Config, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        self.config = config
        self.train, self.test = (examples.to(device) for examples in config.examples())
        self.model = config.decoder().to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.updates_per_epoch = -(-len(self.train) // min(config.batch_size, len(self.train) // 2))
        self.epoch = 0
        self._order = config.stream("order")
        self._noise = config.stream("noise", device)
        for parameter in self.model.parameters():
            # PyTorch skips tensors without a gradient. The unused tensors of summed attention should decay like the others.
            parameter.grad = torch.zeros_like(parameter)

    @property
    def updates(self) -> int:
        """Optimiser updates so far."""
        return self.epoch * self.updates_per_epoch

    def train_epoch(self) -> None:
        """One pass over the training examples in a random order."""
        order = torch.randperm(len(self.train), generator=self._order).to(self.train.tokens.device)
        # Batches of equal size: an update on a few leftover examples would be mostly noise.
        for rows in order.tensor_split(self.updates_per_epoch):
            self.optimizer.zero_grad(set_to_none=False)
            with self._noisy_weights():
                self._objective(rows).backward()
            self.optimizer.step()
        self.epoch += 1

    def _noisy_weights(self) -> AbstractContextManager[None]:
        return weight_noise(self.model, self.config.noise, self._noise) if self.config.noise else nullcontext()

    def _objective(self, rows: Tensor) -> Tensor:
        loss = functional.cross_entropy(self.model(self.train.tokens[rows]), self.train.answers[rows])
        return loss + spectral_entropy_penalty(self.model, self.config.beta) if self.config.beta else loss

    def evaluate(self) -> dict[str, float]:
        """Loss (nats per example) and accuracy on both parts, and two sizes of the weights.

        `l2_norm` is that of all parameters as one vector. `effective_rank` is the mean of exp(H_svd) (DeMoss et al. 2025, Eq. 15)
        over the matrices, each weighted by its number of entries.

        Raises:
            InputError: if training has diverged.
        """
        train_loss, train_accuracy = self._scores(self.train)
        test_loss, test_accuracy = self._scores(self.test)
        if not math.isfinite(train_loss):
            rate = self.config.learning_rate
            raise InputError(f"learning_rate: training diverged before epoch {self.epoch}; choose one below {rate:g}")
        parameters = [parameter.detach() for parameter in self.model.parameters()]
        matrices = [parameter for parameter in parameters if parameter.ndim == 2]
        ranks = sum(effective_rank(matrix) * matrix.numel() for matrix in matrices) / sum(matrix.numel() for matrix in matrices)
        return {
            "train_loss": train_loss,
            "test_loss": test_loss,
            "train_accuracy": train_accuracy,
            "test_accuracy": test_accuracy,
            "l2_norm": sum(parameter.double().square().sum().item() for parameter in parameters) ** 0.5,
            "effective_rank": ranks,
        }

    @torch.no_grad()
    def _scores(self, examples: Examples) -> tuple[float, float]:
        logits = self.model(examples.tokens)
        correct = logits.argmax(1) == examples.answers
        return functional.cross_entropy(logits, examples.answers).item(), correct.double().mean().item()

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and numbers."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self._order.get_state(),
            "noise": self._noise.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            InputError: if it was taken from a trainer of another configuration.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._order.set_state(state["order"].cpu())
            self._noise.set_state(state["noise"].cpu())
            self.epoch = int(state["epoch"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"state: it does not fit this run ({' '.join(str(error).split())[:120]})") from None
