"""Train the example's networks and write their checkpoints: ``python train.py all``."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

# As a script, this file's folder is on the path; imported from the repository root, that root is.
if TYPE_CHECKING or __package__:
    from examples.digits import task
else:
    import task


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW on shuffled minibatches; the learning rate rises and falls in one cycle."""

    epochs: int
    peak_learning_rate: float
    weight_decay: float
    batch: int = 64


RECIPES = {
    "mlp": Recipe(epochs=300, peak_learning_rate=0.02, weight_decay=0.1),
    "convnet": Recipe(epochs=60, peak_learning_rate=0.01, weight_decay=0.3),
}


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """A context that seeds the CPU's random numbers and computes on one thread, so that sums have one order; both are restored after it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def train(name: str, recipe: Recipe, seed: int = 0) -> nn.Module:
    """Train 'mlp' or 'convnet' on the training split and return it in eval mode.

    The same seed gives the same weights, bit for bit, on one machine with one version of PyTorch.
    """
    images, labels = task.split("train")
    with reproducible(seed):
        network = task.BUILDERS[name]()
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
        steps = recipe.epochs * -(-len(labels) // recipe.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_learning_rate, total_steps=steps)
        for _ in range(recipe.epochs):
            for rows in torch.randperm(len(labels)).split(recipe.batch):
                optimizer.zero_grad()
                cross_entropy(network(images[rows]), labels[rows]).backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def save(network: nn.Module, path: Path, provenance: dict[str, int | float | str]) -> None:
    """Write a network's parameters and buffers as safetensors. The metadata entry 'training' says how they were trained."""
    # One entry of metadata, because safetensors writes several in an order that changes from run to run.
    metadata = {"training": json.dumps(provenance, sort_keys=True)}
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(safetensors.torch.save(network.state_dict(), metadata))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def positive(text: str) -> int:
    """An integer of at least 1, from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def parser() -> argparse.ArgumentParser:
    """The command line."""
    recipes = "\n".join(
        f"  {name:8} {recipe.epochs} epochs, peak learning rate {recipe.peak_learning_rate}, "
        f"weight decay {recipe.weight_decay}, batches of {recipe.batch}"
        for name, recipe in RECIPES.items()
    )
    commands = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a classifier of handwritten digits and write its checkpoint, NETWORK.safetensors.\n"
        "Each network takes seconds on one core; the same seed gives the same file.",
        epilog=f"recipes (AdamW):\n{recipes}\n\nexamples:\n"
        "  python train.py all                              both networks, as the example ships them\n"
        "  python train.py mlp --seed 1 --out /tmp          another mlp, in another folder\n"
        "  python train.py convnet --epochs 5 --out /tmp    a convnet stopped early",
    )
    commands.add_argument("network", choices=[*RECIPES, "all"], help="which network to train")
    commands.add_argument("--seed", type=int, default=0, help="seed of initialization and shuffling (default: 0)")
    commands.add_argument("--epochs", type=positive, help="passes over the training data (default: the recipe's)")
    commands.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "checkpoints",
        help="an existing folder; files of the same name are replaced (default: checkpoints, in the folder of train.py)",
    )
    return commands


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the networks that the command line names, and print one line on the result of each."""
    commands = parser()
    options = commands.parse_args(arguments)
    if not options.out.is_dir():
        commands.error(f"--out: expected an existing folder, got {options.out}; make it first")
    for name in RECIPES if options.network == "all" else [options.network]:
        recipe = RECIPES[name] if options.epochs is None else replace(RECIPES[name], epochs=options.epochs)
        start = time.perf_counter()
        network = train(name, recipe, options.seed)
        seconds = time.perf_counter() - start
        path = options.out / f"{name}.safetensors"
        provenance = {"seed": options.seed, "epochs": recipe.epochs, "torch": str(torch.__version__)}
        save(network, path, provenance)
        print(
            f"{path}: {recipe.epochs} epochs in {seconds:.1f} s, training loss {task.loss(network).item():.4f} nats, "
            f"error {task.error(network, 'train'):.2%} in training and {task.error(network, 'test'):.2%} in test"
        )


if __name__ == "__main__":
    main()
