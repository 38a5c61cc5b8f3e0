"""What a report says of the steps since the last one, each number with its unit in the name."""

import time

import mlx.core as mx

from ..core.device import GIB
from ..core.system import process_bytes, swap_bytes


class Window:
    """Collects lazy metrics and reads them all at once when a report is due.

    Losses are weighted by the tokens of their step; `tokens_per_s` divides the tokens of the
    window by the seconds between `start` and `read`, pauses left out.
    """

    def __init__(self, flops_per_token: float, peak_flops: float | None) -> None:
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self.swap = swap_bytes()
        self.restart()

    def restart(self) -> None:
        """Forget what was collected; time runs from now."""
        self.metrics: list[dict[str, mx.array]] = []
        self.tokens = 0
        self.started = time.perf_counter()
        self.paused = 0.0

    def add(self, metrics: dict[str, mx.array], tokens: int) -> None:
        """One step's metrics and the number of its tokens."""
        self.metrics.append(metrics)
        self.tokens += tokens

    def pause(self, seconds: float) -> None:
        """Time that was not spent on steps: evaluation, saving, sampling."""
        self.paused += seconds

    def pending(self) -> tuple[int, float]:
        """Skipped steps and seconds that no report has counted yet."""
        mx.eval(self.metrics)
        skipped = sum(not m["finite"].item() for m in self.metrics)
        return skipped, time.perf_counter() - self.started - self.paused

    def read(self) -> dict[str, float]:
        """The means of the window, evaluated; then a new window begins."""
        mx.eval(self.metrics)
        seconds = max(time.perf_counter() - self.started - self.paused, 1e-9)
        rows = [{name: float(value) for name, value in m.items()} for m in self.metrics]
        done = [row for row in rows if row["finite"]]
        report = {
            "skipped": float(len(rows) - len(done)),
            "learning_rate": rows[-1]["learning_rate"],
            "tokens_per_s": self.tokens / seconds,
            "seconds": seconds,
            **memory(),
        }
        if (swap := swap_bytes()) is not None and self.swap is not None:
            report["swap_growth_gib"] = (swap - self.swap) / GIB
        if self.peak_flops:
            report["mfu"] = self.tokens / seconds * self.flops_per_token / self.peak_flops
        weight = sum(row["tokens"] for row in done)
        for name in (n for n in rows[-1] if n not in ("finite", "learning_rate", "tokens")):
            total = sum(row[name] * row["tokens"] for row in done)
            report["train_loss" if name == "loss" else name] = (
                total / weight if weight else float("nan")
            )
        self.restart()
        return report


def memory() -> dict[str, float]:
    """GiB that MLX holds now, keeps for reuse, and held at most; that the process takes now."""
    return {
        "active_gib": mx.get_active_memory() / GIB,
        "cache_gib": mx.get_cache_memory() / GIB,
        "peak_gib": mx.get_peak_memory() / GIB,
        "process_gib": process_bytes() / GIB,
    }
