"""Log-mel features of sound, as Whisper reads it (Radford et al. 2022, section 2.2)."""

from functools import lru_cache

import numpy as np

RATE = 16_000
"""Samples a second."""
WINDOW, HOP = 400, 160
"""Samples of a frame (25 ms), and between the starts of two frames (10 ms)."""


def log_mel(samples: np.ndarray, n_mels: int = 80, *, length: int | None = None) -> np.ndarray:
    """Features `[frames, n_mels]` of samples `[n]` at 16 kHz, one frame each 10 ms.

    Squared magnitudes of Hann windows on a mel scale, as log10 with a floor of 8 decades below the
    loudest value of the whole clip, mapped from [-4, 4] to about [0, 2]. With `length` the clip is
    cut to, or padded with silence to, this many samples first.

    Raises:
        ValueError: the clip is too short for one window.
    """
    if length is not None:
        samples = np.pad(samples[:length], (0, max(0, length - len(samples))))
    if len(samples) <= WINDOW // 2:
        raise ValueError(
            f"A clip of {len(samples)} samples is too short: it needs more than {WINDOW // 2} of "
            "them, 12.5 ms at 16 kHz. Leave it out, or pad it with silence."
        )
    power = power_spectrum(samples.astype(np.float64))[:-1]
    decades = np.log10(np.maximum(power @ mel_filters(n_mels), 1e-10))
    scaled: np.ndarray = (np.maximum(decades, decades.max() - 8.0) + 4.0) / 4.0
    return scaled.astype(np.float32)


def power_spectrum(samples: np.ndarray) -> np.ndarray:
    """Squared magnitudes `[frames, 201]` of Hann windows around every 160th sample; the ends are
    mirrored."""
    padded = np.pad(samples, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2


@lru_cache(maxsize=4)
def mel_filters(n_mels: int) -> np.ndarray:
    """Triangular filters `[WINDOW / 2 + 1, n_mels]` from 0 Hz to half the rate, each with area 1,
    evenly spaced on Slaney's mel scale: linear up to 1 kHz, logarithmic above (Slaney 1998)."""
    edges = _hertz(np.linspace(0.0, _mels(RATE / 2), n_mels + 2))
    bins = np.linspace(0.0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters: np.ndarray = np.maximum(0.0, triangle) * (2.0 / (high - low))
    return filters


LINEAR = 200.0 / 3
"""Hertz of one mel below 1 kHz."""
LOG_STEP = np.log(6.4) / 27
"""Growth of the logarithm of the frequency with one mel above 1 kHz."""


def _mels(hertz: float) -> float:
    return hertz / LINEAR if hertz < 1000 else float(15 + np.log(hertz / 1000) / LOG_STEP)


def _hertz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15, mels * LINEAR, 1000 * np.exp(LOG_STEP * (mels - 15)))
