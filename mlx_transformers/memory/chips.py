"""Specifications of Apple's chips, for plans of Macs other than this machine.

Memory sizes, GPU cores and bandwidth are from Apple's newsroom and technical specifications (the
largest GPU sold under a name). Apple publishes no peak arithmetic: peaks are estimates, and marked
as such wherever they are printed, `cores · 128 lanes · 2 · clock`, with clocks measured by third
parties (M1 and
M2: github.com/philipturner/metal-benchmarks; M3 to M5: not measured well, assumed). Half precision
runs at the rate of single up to M4; M5 has matrix units in its GPU, which Apple puts at over 4
times M4's peak for matrix work.
"""

import re
from dataclasses import dataclass

from ..core.errors import RecipeError, unknown

GB = 1e9
LANES = 128
"""Multiply-adds of one GPU core per clock."""
BASE_WATTS, WATTS_PER_CORE = 10.0, 1.5
"""Assumed power: of a machine, and of each GPU core. Not measured."""


@dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
        name: "M3 Max".
        memory_gb: sizes it is sold with.
        bandwidth_gb_s: of the unified memory.
        gpu_cores: of its largest GPU.
        clock_ghz: of the GPU, an estimate.
        half_speedup: peak of 16-bit matrix products over that of float32, an estimate.
    """

    name: str
    memory_gb: tuple[int, ...]
    bandwidth_gb_s: float
    gpu_cores: int
    clock_ghz: float
    half_speedup: float = 1.0

    @property
    def fp32_tflops(self) -> float:
        """Estimated peak in float32."""
        return self.gpu_cores * LANES * 2 * self.clock_ghz / 1e3

    @property
    def fp16_tflops(self) -> float:
        """Estimated peak of matrix products in float16 or bfloat16."""
        return self.fp32_tflops * self.half_speedup

    @property
    def watts(self) -> float:
        """Assumed power of the whole machine while its GPU computes, display left out."""
        return BASE_WATTS + WATTS_PER_CORE * self.gpu_cores

    def flops(self, dtype: str) -> float:
        """Estimated peak operations per second in the dtype of a run."""
        return 1e12 * (self.fp32_tflops if dtype == "float32" else self.fp16_tflops)


CHIPS = (
    Chip("M1", (8, 16), 68.25, 8, 1.278),
    Chip("M1 Pro", (16, 32), 200, 16, 1.296),
    Chip("M1 Max", (32, 64), 400, 32, 1.296),
    Chip("M1 Ultra", (64, 128), 800, 64, 1.296),
    Chip("M2", (8, 16, 24), 100, 10, 1.398),
    Chip("M2 Pro", (16, 32), 200, 19, 1.398),
    Chip("M2 Max", (32, 64, 96), 400, 38, 1.398),
    Chip("M2 Ultra", (64, 128, 192), 800, 76, 1.398),
    Chip("M3", (8, 16, 24), 100, 10, 1.4),
    Chip("M3 Pro", (18, 36), 150, 18, 1.4),
    Chip("M3 Max", (36, 48, 64, 96, 128), 400, 40, 1.4),
    Chip("M3 Ultra", (96, 256, 512), 819, 80, 1.4),
    Chip("M4", (16, 24, 32), 120, 10, 1.5),
    Chip("M4 Pro", (24, 48, 64), 273, 20, 1.5),
    Chip("M4 Max", (36, 48, 64, 128), 546, 40, 1.5),
    Chip("M5", (16, 24, 32), 153, 10, 1.6, 4.0),
    Chip("M5 Pro", (24, 48, 64), 307, 20, 1.6, 4.0),
    Chip("M5 Max", (36, 48, 64, 128), 614, 40, 1.6, 4.0),
)


@dataclass(frozen=True)
class Mac:
    """A chip with the memory that it has."""

    chip: Chip
    memory_gb: int

    @property
    def name(self) -> str:
        """ "M3 Max 64GB"."""
        return f"{self.chip.name} {self.memory_gb}GB"


def find_mac(text: str) -> Mac:
    """The Mac that "M3 Max 64GB" names; without a size the smallest that it is sold with.

    Raises:
        RecipeError: there is no such chip, or not with that much memory.
    """
    match = re.fullmatch(r"\s*(?:apple\s+)?(.*?)\s*(?:(\d+)\s*gi?b?)?\s*", text.lower())
    name, size = match.groups() if match else (text, None)
    by_name = {chip.name.lower().replace(" ", ""): chip for chip in CHIPS}
    chip = by_name.get(name.replace(" ", ""))
    if chip is None:
        names = [chip.name for chip in CHIPS]
        near = {n.lower(): n for n in names}
        raise RecipeError(unknown("chip", near.get(name, name.title() or text), names))
    if size is not None and int(size) not in chip.memory_gb:
        sizes = ", ".join(map(str, chip.memory_gb))
        raise RecipeError(f"There is no {chip.name} with {size} GB of memory. It has {sizes} GB.")
    return Mac(chip, int(size) if size else chip.memory_gb[0])
