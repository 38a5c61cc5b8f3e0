"""Complex arrays as pairs of real ones.

Metal has no complex matrix products, and low-precision casts of complex parameters don't exist:
parameters and states keep real and imaginary parts, and their arithmetic is written out here.
"""

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class Complex:
    """Real and imaginary parts of equal shape."""

    re: mx.array
    im: mx.array

    @classmethod
    def of(cls, pairs: mx.array) -> "Complex":
        """The complex array whose parts are the last axis of `pairs [..., 2]`."""
        return cls(pairs[..., 0], pairs[..., 1])

    def pairs(self) -> mx.array:
        """The parts side by side, `[..., 2]`."""
        return mx.stack([self.re, self.im], axis=-1)

    def stacked(self, axis: int) -> mx.array:
        """The real parts followed by the imaginary parts along `axis`."""
        return mx.concatenate([self.re, self.im], axis=axis)

    def __getitem__(self, index: object) -> "Complex":
        return Complex(self.re[index], self.im[index])

    def __add__(self, other: "Complex | float") -> "Complex":
        if isinstance(other, Complex):
            return Complex(self.re + other.re, self.im + other.im)
        return Complex(self.re + other, self.im)

    def __neg__(self) -> "Complex":
        return Complex(-self.re, -self.im)

    def __sub__(self, other: "Complex | float") -> "Complex":
        return self + (-other)

    def __mul__(self, other: "Complex | mx.array | float") -> "Complex":
        if isinstance(other, Complex):
            re = self.re * other.re - self.im * other.im
            return Complex(re, self.re * other.im + self.im * other.re)
        return Complex(self.re * other, self.im * other)

    def __matmul__(self, other: "Complex") -> "Complex":
        re = self.re @ other.re - self.im @ other.im
        return Complex(re, self.re @ other.im + self.im @ other.re)

    def conj(self) -> "Complex":
        """The complex conjugate."""
        return Complex(self.re, -self.im)

    def reciprocal(self) -> "Complex":
        """`1 / z`."""
        size = self.re * self.re + self.im * self.im
        return Complex(self.re / size, -self.im / size)

    def exp(self) -> "Complex":
        """`e^z`."""
        size = mx.exp(self.re)
        return Complex(size * mx.cos(self.im), size * mx.sin(self.im))

    def expm1(self) -> "Complex":
        """`e^z - 1`, exact near zero too."""
        half = mx.sin(0.5 * self.im)
        grown = mx.exp(self.re)
        re = mx.expm1(self.re) - 2.0 * grown * half * half
        return Complex(re, grown * mx.sin(self.im))

    def log(self) -> "Complex":
        """`log z` with its imaginary part in (-π, π]; zero counts as 1e-15."""
        size = mx.maximum(self.re * self.re + self.im * self.im, 1e-30)
        return Complex(0.5 * mx.log(size), mx.arctan2(self.im, self.re))
