"""Made-up inputs for published networks: sounds, images and text that are drawn from a seed.

The numbers are like those on which the networks were trained, as far as formulas go. Nothing is downloaded; the digits are those of
scikit-learn.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

RATE = 16_000
"""Samples a second."""
_PARTIALS = torch.arange(1, 13)


def sounds(m: int, samples: int, generator: Generator, *, pauses: bool = False) -> Tensor:
    """Voices (m, samples): harmonics of a gliding pitch under a random spectral envelope, with noise.

    With pauses, each voice has loud and soft parts.
    """
    pitch = 60.0 * 2 ** (4 * torch.rand(m, 1, 1, generator=generator))
    glide = 1 + 0.1 * torch.randn(m, 1, 1, generator=generator)
    time = torch.arange(samples) / RATE
    phases = 2 * math.pi * torch.rand(m, len(_PARTIALS), 1, generator=generator)
    formant = 200 * 2 ** (4 * torch.rand(m, 1, 1, generator=generator))
    partials = pitch * _PARTIALS[None, :, None]
    envelope = torch.exp(-((partials / formant).log2() ** 2)) + 0.05 * torch.rand(m, len(_PARTIALS), 1, generator=generator)
    envelope = envelope * (partials < RATE / 2)
    turned = 2 * math.pi * partials * (time + (glide - 1) * time.square() / (2 * max(samples / RATE, 1e-9)))
    voice = (envelope * torch.sin(turned + phases)).sum(1)
    voice = voice / voice.square().mean(1, keepdim=True).sqrt()
    if pauses:
        steps = 10.0 ** (-2 * torch.rand(m, 1, 1 + samples // 512, generator=generator))
        voice = voice * F.interpolate(steps, samples, mode="linear", align_corners=True)[:, 0]
    noise = 10.0 ** (-1 - 2 * torch.rand(m, 1, generator=generator)) * torch.randn(m, samples, generator=generator)
    return voice + noise


def frames(m: int, generator: Generator) -> Tensor:
    """Frames of sound (m, 1024) with mean 0 and standard deviation 1."""
    drawn = sounds(m, 1024, generator)
    return (drawn - drawn.mean(1, keepdim=True)) / drawn.std(1, keepdim=True)


def speech(m: int, generator: Generator) -> Tensor:
    """Three chunks of 512 samples with the 64 before them (m, 1600), of about the loudness of speech."""
    return 0.05 * sounds(m, 64 + 3 * 512, generator, pauses=True)


def mel_spectrograms(m: int, generator: Generator) -> Tensor:
    """Energies (m, 24, 40) in 40 mel bands, for 24 windows of 25 ms."""
    window, hop, bands = 400, 160, 40
    waves = 0.1 * sounds(m, window + 23 * hop, generator, pauses=True)
    spectrum = torch.stft(waves, window, hop, window=torch.hann_window(window), center=False, return_complex=True).abs().square()
    edges = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + RATE / 1400), bands + 2) / 2595) - 1)
    frequencies = torch.linspace(0, RATE / 2, window // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp(min=0) * 2 / (edges[2:] - edges[:-2])[:, None]
    return (filters @ spectrum).transpose(1, 2)


def spectra(m: int, generator: Generator) -> Tensor:
    """Frames of a constant-Q transform (m, 1, 264) in decibels, 36 bins an octave: the peaks of a harmonic sound over noise."""
    bins = torch.arange(264.0)
    lowest = 180 * torch.rand(m, 1, 1, generator=generator)
    places = lowest + 36 * _PARTIALS.log2()[None, :, None]
    strengths = -30 * torch.rand(m, len(_PARTIALS), 1, generator=generator) - 3 * _PARTIALS.log2()[None, :, None]
    peaks = (10 ** (strengths / 20) * torch.exp(-(((bins - places) / 1.5) ** 2))).sum(1)
    noise = 10 ** (-2 - torch.rand(m, 1, generator=generator)) * torch.randn(m, 264, generator=generator).abs()
    loudness = 40 * torch.rand(m, 1, generator=generator) - 30
    return (20 * (peaks + noise).clamp(min=1e-6).log10() + loudness)[:, None]


def portraits(m: int, generator: Generator, size: int) -> Tensor:
    """Images (m, 3, size, size) in [-1, 1]: drawn faces of random places, sizes and colours on smooth random backgrounds."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(m, *shape, 1, 1, generator=generator)

    line = torch.linspace(-1, 1, size)
    y, x = line[None, None, :, None], line[None, None, None, :]
    images = F.interpolate(torch.rand(m, 3, 5, 5, generator=generator) * 2 - 1, size, mode="bicubic", align_corners=True)
    middle_x, middle_y, radius = uniform(-0.4, 0.4, 1), uniform(-0.4, 0.4, 1), uniform(0.3, 1.0, 1)
    skin = uniform(0.0, 0.9, 1) + torch.tensor([0.15, 0.0, -0.1])[None, :, None, None]
    dark = uniform(-0.9, -0.3, 1)

    def blob(across: float, down: float, wide: float, high: float) -> Tensor:
        right, below = (x - middle_x) / radius - across, (y - middle_y) / radius - down
        return torch.sigmoid(4 * (1 - (right / wide) ** 2 - (below / high) ** 2))

    for part, colour in (
        (blob(0, 0, 0.8, 1.0), skin),
        (blob(-0.35, -0.2, 0.18, 0.1), dark),
        (blob(0.35, -0.2, 0.18, 0.1), dark),
        (blob(0, 0.15, 0.1, 0.2), 0.7 * skin),
        (blob(0, 0.5, 0.35, 0.1), dark),
    ):
        images = images + part * (colour - images)
    # Some images have no face.
    empty = torch.rand(m, 1, 1, 1, generator=generator) < 0.25
    background = F.interpolate(torch.rand(m, 3, 7, 7, generator=generator) * 2 - 1, size, mode="bicubic", align_corners=True)
    return torch.where(empty, background, images).clamp(-1, 1)


def handwriting(m: int, generator: Generator) -> Tensor:
    """Images (m, 1, 28, 28) of scikit-learn's handwritten digits, enlarged to 20×20 in the middle and scaled like MNIST."""
    from sklearn.datasets import load_digits

    images = torch.tensor(load_digits().images / 16, dtype=torch.float32)
    drawn = images[torch.randperm(len(images), generator=generator)[:m], None]
    return (F.pad(F.interpolate(drawn, 20, mode="bilinear"), (4, 4, 4, 4)) - 0.1307) / 0.3081


def text(m: int, generator: Generator) -> Tensor:
    """Numbers (m, 48) of characters: Thai consonants and vowels in syllables, with a few spaces and digits."""
    # The network numbers digits 4 to 13, and Thai characters from 66 in the order of Unicode.
    consonants = 66 + torch.randint(44, (m, 48), generator=generator)
    vowels = 111 + torch.randint(24, (m, 48), generator=generator)
    others = torch.randint(3, 14, (m, 48), generator=generator)
    draws = torch.rand(m, 48, generator=generator)
    return torch.where(draws < 0.55, consonants, torch.where(draws < 0.95, vowels, others))
