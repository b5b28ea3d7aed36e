"""Writes the text of a task module for `init`: a loss, its data and the network, with comments that say what to change."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("classifier", "language-model", "regression", "function")
WHAT = {
    "classifier": "a classifier, by the mean cross-entropy of its labels",
    "language-model": "a language model, by the mean cross-entropy of the next token",
    "regression": "a regression, by the mean squared error",
    "function": "a network without labels, by the divergence from its own outputs",
}


@dataclass(frozen=True)
class Linear:
    """A linear layer of a chain, by its name in the checkpoint."""

    name: str
    inputs: int
    outputs: int
    bias: bool


@dataclass(frozen=True)
class Arrays:
    """The training data: an .npz file, the names of its arrays, the shape of one input, the outputs if they show them, and n examples."""

    file: str
    inputs: str
    labels: str
    shape: tuple[int, ...]
    outputs: int | None
    n: int


@dataclass(frozen=True)
class TaskPlan:
    """The parts of a task module.

    Attributes:
        kind: one of `KINDS`.
        shape: the shape of one input; for tokens, the length of a sequence.
        outputs: classes, tokens of the vocabulary, or predicted numbers.
        model: MODULE:FUNCTION that makes the network; None writes the code of one.
        chain: the linear layers of a checkpoint, with ReLU between them, if there is no `model`.
        data: the training data; None uses random numbers.
    """

    kind: str
    shape: tuple[int, ...]
    outputs: int
    model: str | None = None
    chain: tuple[Linear, ...] = ()
    data: Arrays | None = None


def task_text(plan: TaskPlan) -> str:
    """The module, ready to be imported.

    >>> print(task_text(TaskPlan("classifier", (4,), 3)).splitlines()[0])
    \"\"\"A task for nncomplexity: a classifier, by the mean cross-entropy of its labels.
    """
    parts = [_head(plan), _network(plan), _data(plan), _LOSSES[plan.kind]]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _head(plan: TaskPlan) -> str:
    numbers = ["import numpy as np"] if plan.data else []
    functional = {"classifier": ["cross_entropy"], "language-model": ["cross_entropy"], "regression": ["mse_loss"]}.get(
        plan.kind, []
    )
    lines = [
        f'"""A task for nncomplexity: {WHAT[plan.kind]}.',
        "",
        "Functions that take `network` get the module that build() makes, with the checkpoint's weights or with those of a smaller file. They",
        "must be deterministic: the same weights must give the same number.",
        '"""',
        "",
        *(["from collections import OrderedDict"] if plan.chain else []),
        *(["from functools import cache"]),
        *(["from pathlib import Path"] if plan.data else []),
        "",
        *numbers,
        "import torch",
        *([] if plan.model else ["from torch import nn"]),
        *([f"from torch.nn.functional import {', '.join(functional)}"] if functional else []),
        "",
        *(["from nncomplexity import loss_from"] if plan.kind != "function" else []),
    ]
    if plan.model:
        module, _, function = plan.model.partition(":")
        lines += [f"from {module} import {function.split('.')[0]}"]
    return "\n".join(lines)


def _network(plan: TaskPlan) -> str:
    if plan.model:
        return f'''
def build():
    """The network, untrained: `--model` loads the checkpoint into it."""
    return {plan.model.partition(":")[2]}().eval()  # without dropout, and with the stored statistics of batch norm
'''
    if plan.chain:
        return _built_chain(plan)
    width = 32
    if plan.kind == "language-model":
        layers = [f"nn.Embedding({plan.outputs}, {width})", f"nn.Linear({width}, {plan.outputs})"]
    else:
        flat = ["nn.Flatten()"] if len(plan.shape) > 1 else []
        layers = [*flat, f"nn.Linear({_count(plan.shape)}, {width})", "nn.ReLU()", f"nn.Linear({width}, {plan.outputs})"]
    return f'''
def build():
    """The network, untrained: `--model` loads the checkpoint into it. Put your network here. Its names must be those of the checkpoint."""
    network = nn.Sequential({", ".join(layers)})
    return network.eval()  # without dropout, and with the stored statistics of batch norm
'''


def _built_chain(plan: TaskPlan) -> str:
    rows = ['        ("flatten", nn.Flatten()),'] if len(plan.shape) > 1 else []
    for number, layer in enumerate(plan.chain):
        bias = "" if layer.bias else ", bias=False"
        rows += [f'        ("{layer.name}", nn.Linear({layer.inputs}, {layer.outputs}{bias})),']
        rows += [f'        ("activation{number}", nn.ReLU()),'] if layer is not plan.chain[-1] else []
    return "\n".join(
        [
            "def build():",
            '    """The network, untrained: `--model` loads the checkpoint into it.',
            "",
            "    A checkpoint has the layers, but not the activations between them: ReLU is a guess.",
            '    """',
            "    layers = [",
            *rows,
            "    ]",
            "    return nn.Sequential(OrderedDict(layers)).eval()",
        ]
    )


_LABELS = {
    "classifier": "the class of each, (n,) from 0 to {last}",
    "language-model": "the token after each of them, (n, {length})",
    "regression": "the numbers to predict, (n, {outputs})",
    "function": "",
}


def _data(plan: TaskPlan) -> str:
    labels = _LABELS[plan.kind].format(last=plan.outputs - 1, length=plan.shape[0], outputs=plan.outputs)
    shape = ", ".join(["n", *map(str, plan.shape)])
    inputs = f"tokens, ({shape})" if plan.kind == "language-model" else f"inputs, ({shape})"
    sentence = f"The training data: {inputs}" + (f", and {labels}." if labels else ".")
    lines = ["@cache", "def data():", f'    """{sentence}"""']
    lines += _read(plan, plan.data) if plan.data else _made_up(plan)
    return "\n".join(lines)


def _read(plan: TaskPlan, data: Arrays) -> list[str]:
    of_tokens = plan.kind == "language-model"
    first = f"torch.from_numpy(arrays[{data.inputs!r}]){'.long()' if of_tokens else '.float()'}"
    lines = [f"    with np.load(Path(__file__).parent / {data.file!r}) as arrays:", f"        inputs = {first}"]
    if plan.kind == "function":
        return [*lines, "    return inputs"]
    if of_tokens:
        return [*lines, "    return inputs[:, :-1], inputs[:, 1:]"]
    ending = ".long()" if plan.kind == "classifier" else f".float().reshape(len(inputs), {plan.outputs})"
    return [*lines, f"        labels = torch.from_numpy(arrays[{data.labels!r}]){ending}", "    return inputs, labels"]


def _made_up(plan: TaskPlan) -> list[str]:
    shape = ", ".join(map(str, plan.shape))
    lines = [
        "    # Put your data here. These are random numbers, so that the file runs as it is. A measurement on them means nothing.",
        "    generator = torch.Generator().manual_seed(0)",
    ]
    if plan.kind == "language-model":
        length = plan.shape[0] + 1
        lines += [f"    tokens = torch.randint({plan.outputs}, (256, {length}), generator=generator)"]
        return [*lines, "    return tokens[:, :-1], tokens[:, 1:]"]
    lines += [f"    inputs = torch.randn(256, {shape}, generator=generator)"]
    if plan.kind == "function":
        return [*lines, "    return inputs"]
    if plan.kind == "classifier":
        return [*lines, f"    return inputs, torch.randint({plan.outputs}, (256,), generator=generator)"]
    return [*lines, f"    return inputs, torch.randn(256, {plan.outputs}, generator=generator)"]


_LOSSES = {
    "classifier": '''
def per_example(network, inputs, labels):
    """The cross-entropy of each example in nats, (m,)."""
    return cross_entropy(network(inputs), labels, reduction="none")


# The mean over the training data. Because it is made of examples, a search can use gradients on a part of them.
loss = loss_from(per_example, data())


def error(network):
    """The share of wrong answers on the training data, for the bound on unseen data: `--risk-fn`."""
    inputs, labels = data()
    return (network(inputs).argmax(1) != labels).double().mean()
''',
    "language-model": '''
def per_example(network, tokens, following):
    """The mean cross-entropy of the next token in nats, for each sequence, (m,)."""
    logits = network(tokens)  # (m, length, vocabulary)
    return cross_entropy(logits.transpose(1, 2), following, reduction="none").mean(1)


# The mean over the training data. Because it is made of sequences, a search can use gradients on a part of them.
loss = loss_from(per_example, data())
''',
    "regression": '''
def per_example(network, inputs, targets):
    """The squared error of each example, (m,)."""
    return mse_loss(network(inputs), targets, reduction="none").flatten(1).mean(1)


# The mean over the training data. Its unit is not nats, so give ε as a share, such as --eps 1%.
loss = loss_from(per_example, data())
''',
    "function": '''
def outputs(network, inputs):
    """The network's outputs, for `--outputs`: logits over classes, (m, classes). For other numbers add `--divergence mse`."""
    return network(inputs)


def inputs():
    """The inputs on which the two networks are compared, for `--inputs`. A fifth of them is held out, to check the file."""
    return data()
''',
}


def command_of(plan: TaskPlan, module: str, checkpoint: str | None) -> str:
    """The call that measures a checkpoint with the module, for a shell."""
    what = f"--outputs {module}:outputs --inputs {module}:inputs" if plan.kind == "function" else f"--loss-fn {module}:loss"
    eps = "1%" if plan.kind == "regression" else "0.1"
    n = plan.data.n if plan.data else "N"
    bound = f" --risk-fn {module}:error --n {n} --classes {plan.outputs}" if plan.kind == "classifier" else ""
    return f"nncomplexity measure {checkpoint or 'CHECKPOINT'} --model {module}:build {what} --eps {eps}{bound}"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count
