"""Fourier mixing (FNet)."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...core.errors import RunError
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ..kinds import MixerKind, State

NO_DECODING = (
    "A fourier mixer needs the whole sequence for each of its outputs, so it can't decode token by "
    "token. Use it in an encoder."
)


class Fourier(MixerKind):
    """Fourier mixing: the real part of a Fourier transform over sequence and width.

    `Re F_T(F_D(x))`; Lee-Thorp et al. 2021 (FNet), equation 3. It mixes padding in, as in the
    paper, so rows should have one length.
    """

    kind: Literal["fourier"] = "fourier"
    causal: ClassVar[bool] = False

    def build(self, dim: int) -> "FourierMixer":
        return FourierMixer()

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """None: the transform is linear and has no weights."""
        return 0.0

    def flops(self, dim: int, length: int) -> float:
        """None: a fast Fourier transform multiplies no matrices."""
        return 0.0


class FourierMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, computed in float32."""

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return mx.fft.fft2(x.astype(mx.float32), axes=(1, 2)).real.astype(x.dtype)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Raise RunError: each output needs the whole sequence."""
        raise RunError(NO_DECODING)

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[mx.array, State]:
        """Raise RunError, as `init_state`."""
        raise RunError(NO_DECODING)
