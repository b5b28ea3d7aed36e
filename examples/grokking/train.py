"""Train a network of *The Complexity Dynamics of Grokking* and measure its complexity while it trains.

python examples/grokking/train.py --preset quick --out runs/quick
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

if not __package__:
    # As a script, this file's folder is on the path; packages are found from the repository's root.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.grokking.command import run_command
from examples.grokking.complexity import Settings
from examples.grokking.config import PRESETS, REGULARIZERS, preset
from examples.grokking.data import OPERATIONS
from examples.grokking.display import Display
from examples.grokking.folder import RunFolder
from examples.grokking.model import ATTENTIONS
from examples.grokking.recording import train_run
from nncomplexity.network import find_device

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error."""
    return run_command(app, "train.py", argv)


def _choice(names: Sequence[str], text: str) -> str:
    return f"{text}: {', '.join(names)}."


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run goes; a run that is there is continued.")],
    preset_name: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="quick: minutes. paper: the paper's Table 1.")
    ] = "quick",
    operation: Annotated[
        str, typer.Option("--task", "--operation", metavar="NAME", help=_choice(list(OPERATIONS), "What to learn"))
    ] = "addition",
    regularizer: Annotated[
        str, typer.Option("--regularizer", "--regulariser", metavar="NAME", help=_choice(REGULARIZERS, "What acts on the weights"))
    ] = "full",
    attention: Annotated[str, typer.Option(metavar="NAME", help=_choice(ATTENTIONS, "How positions mix"))] = "proper",
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of data, weights, order, noise and search.")] = 0,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training equations.")] = None,
    eps: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="ε in nats per example; repeat it for several.")] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="tight, bayes or quantize, as in nncomplexity measure.")] = "tight",
    budget: Annotated[int | None, typer.Option(metavar="N", help="Loss evaluations for each measurement and ε.")] = None,
    prime: Annotated[int | None, typer.Option(metavar="P", help="The modulus.")] = None,
    train_fraction: Annotated[float | None, typer.Option(metavar="SHARE", help="Share of the equations to train on.")] = None,
    layers: Annotated[int | None, typer.Option(metavar="N", help="Layers of the decoder.")] = None,
    d_model: Annotated[int | None, typer.Option("--d-model", metavar="N", help="Width of the decoder.")] = None,
    heads: Annotated[int | None, typer.Option(metavar="N", help="Attention heads.")] = None,
    d_mlp: Annotated[int | None, typer.Option("--d-mlp", metavar="N", help="Width inside the MLP.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="At most; never more than half of the equations.")] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="RATE", help="Of AdamW.")] = None,
    weight_decay: Annotated[float | None, typer.Option(metavar="RATE", help="Of AdamW.")] = None,
    noise: Annotated[float | None, typer.Option(metavar="STD", help="Standard deviation of the weight noise.")] = None,
    beta: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Of the spectral entropy in the loss.")] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or cuda:1.")] = "cpu",
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Processor threads.")] = 1,
) -> None:
    """Train a decoder on a modular-arithmetic task and measure its complexity in bits while it trains.

    At first the network memorises its training equations, and its complexity rises. Much later it finds the rule behind them:
    the test accuracy jumps to 1, and the complexity falls. Without a regularizer the complexity stays high.

    \b
    Watch it in miniature, then draw it:
      python examples/grokking/train.py --preset quick --out runs/quick
      python examples/grokking/figures.py runs/quick --out figures
    \b
    The paper's network, without its regularizers, and measured as in the paper:
      python examples/grokking/train.py --preset paper --regularizer none \\
          --method bayes --out runs/none

    --out receives metrics.jsonl, a line for each of the epochs 1, 2, 3, 4, 6, 8 … ⌊1.3^k⌋ and the last: losses in nats per
    example, accuracies, the norm and the effective rank of the weights, seconds of training and bits@ε. It also receives the
    checkpoints of these epochs and the configuration. After an interruption the same command continues to the same result.

    Options that are not given come from the preset. quick is addition modulo 47 on 40 % of the equations, 300 epochs, with a small budget.
    paper is Table 1 of the paper for each task, 1000 epochs. --weight-decay, --noise and --beta also replace what the regularizer
    says.
    """
    given = {
        "epochs": epochs,
        "prime": prime,
        "train_fraction": train_fraction,
        "layers": layers,
        "d_model": d_model,
        "heads": heads,
        "d_mlp": d_mlp,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "noise": noise,
        "beta": beta,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    config = preset(preset_name, operation, regularizer, attention=attention, seed=seed, **changes)
    settings = Settings(tuple(eps or ["1"]), method, PRESETS[preset_name].budget if budget is None else budget, seed)
    place = find_device(device)
    torch.set_num_threads(threads)
    folder = RunFolder(out, config, settings)
    with Display(config.epochs, settings.eps) as display:
        train_run(folder, place, display)
    print(f"done: {folder.metrics}")


if __name__ == "__main__":
    sys.exit(main())
