"""Invertible transforms of the kernels of convolutions between two layouts."""

from dataclasses import dataclass

from .transforms import Arrays


@dataclass(frozen=True)
class PatchKernel:
    """Kernels of patches `[D, channels, size, size]` as matrices `[D, size * size * channels]`."""

    size: int
    channels: int

    def load(self, theirs: Arrays) -> Arrays:
        return [x.transpose(0, 2, 3, 1).reshape(len(x), -1) if x.ndim > 1 else x for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        shape = (self.size, self.size, self.channels)
        return [x.reshape(len(x), *shape).transpose(0, 3, 1, 2) if x.ndim > 1 else x for x in ours]


@dataclass(frozen=True)
class Kernels:
    """Kernels of convolutions over time, `[out, in, width]` there, `[out, width, in]` here."""

    def load(self, theirs: Arrays) -> Arrays:
        return [x.transpose(0, 2, 1) if x.ndim > 1 else x for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return self.load(ours)


@dataclass(frozen=True)
class Depthwise:
    """The kernel of a depthwise convolution, `[D, 1, W]` on their side, `[D, W]` on ours; mlx-lm's
    files have `[D, W, 1]`."""

    def load(self, theirs: Arrays) -> Arrays:
        return [x.squeeze(1 if x.shape[1] == 1 else 2) if x.ndim == 3 else x for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [x[:, None] if x.ndim == 2 else x for x in ours]
