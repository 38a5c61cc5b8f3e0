"""The tables of a recipe that the trainer reads: `[train]`, `[eval]`, `[checkpoint]`, `[log]`."""

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, create_model, model_validator

from ..optim.clip import ClipNone
from ..optim.kinds import MAX_DECAY, ClipKind
from ..recipe.config import Config
from ..recipe.slot import Slot

Every = Annotated[str, Field(pattern=r"^every [1-9][0-9]*$")]
Dtype = Literal["float32", "bfloat16", "float16"]


class BatchStage(Config):
    """A part of the run with smaller batches (Smith et al. 2018)."""

    until: int = Field(ge=1)
    """Step at which the next stage begins; after the last one it is the whole batch."""
    rows: int = Field(ge=1)
    """Rows of a step."""


class LengthWarmup(Config):
    """Rows that are cut short at first (Li et al. 2022, section 4): their length rises linearly."""

    start: int = Field(ge=2)
    """Tokens of a row at the start."""
    steps: int = Field(ge=1)
    """Steps until rows have `train.seq_len` tokens."""
    shapes: int = Field(4, ge=2)
    """Different lengths, evenly spaced; each is compiled once."""

    def length(self, step: int, seq_len: int) -> int:
        """Return the tokens of a row of a step."""
        stage = math.floor(min(step / self.steps, 1.0) * (self.shapes - 1))
        return round(self.start + (seq_len - self.start) * stage / (self.shapes - 1))


class Train(Config):
    """Length, batch size, precision and numerical safety of training."""

    steps: int = Field(ge=1)
    """Optimizer steps."""
    batch_size: int = Field(ge=1)
    """Rows of a batch, computed at once unless `microbatch` divides them."""
    accumulate: int = Field(1, ge=1)
    """Gradient accumulation: batches per step, of batch_size · accumulate · seq_len tokens."""
    microbatch: Annotated[int, Field(ge=1)] | Literal["given", "auto"] = "given"
    """Rows computed at once: a divisor of the rows of a step, batch_size · accumulate, whose number
    it doesn't change. `auto` is the largest that fits memory; `given` is batch_size."""
    batch_schedule: list[BatchStage] = Field(default_factory=list)
    """Smaller batches at first: stages of `until` and `rows`. A step accumulates fewer microbatches
    then, so `rows` is a multiple of a microbatch; the last batch is batch_size · accumulate."""
    noise_scale: bool = False
    """Measure the gradient noise scale from the norms of microbatches and of whole steps."""
    seq_len: int = Field(ge=1)
    """Tokens of a row, T."""
    seq_len_warmup: LengthWarmup | None = None
    """Shorter rows at first."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the weights, the order of the data and every dropout mask."""
    dtype: Dtype = "float32"
    """Mixed precision: dtype of the forward and backward pass; weights and optimizer state stay
    float32."""
    clip: Annotated[ClipKind, Slot("clip")] = ClipNone()
    """Gradient clipping."""
    recompute: Literal["none", "all", "auto"] | Every | list[int] = "none"
    """Activation (gradient) checkpointing: blocks whose activations are recomputed in the backward
    pass. "every 2" means blocks 0, 2, 4 and so on; `auto` as many as memory demands."""
    cache_limit_gib: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Limit of MLX's cache of freed memory; `auto` is the rest of the budget after the plan, and no
    more than a step can use."""
    wired_limit_gib: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Limit of wired memory on Metal (macOS 15 and later); `auto` follows the plan."""
    nonfinite: Literal["skip", "stop"] = "skip"
    """Action on a NaN or infinite gradient: skip the step, or stop the run."""
    shard_optimizer: bool = False
    """Shard the optimizer state over processes (ZeRO, stage 1). Checkpoints hold all of it, for any
    number of processes."""
    offload_optimizer: bool | Annotated[str, Field(min_length=1)] = False
    """Optimizer state and gradients in a file, with a part of them in memory at a time: true keeps
    it on the disk of the run's folder, a path names another folder. The result does not change."""
    tensor_parallel: int = Field(1, ge=1)
    """Tensor parallelism: processes that share every layer. Each has a part of the heads and of the
    hidden features, and all see the same rows. Checkpoints hold the whole model."""
    freeze: list[str] = Field(default_factory=list)
    """Modules or parameters that are not trained, by path: ["embed", "stack.blocks.0"]; `*` matches
    as in file names. They have no gradient and no optimizer state; checkpoints hold them."""
    ema: float | None = Field(None, gt=0, le=MAX_DECAY)
    """Decay of an exponential moving average (EMA) of the weights; none keeps no average."""
    share: float = Field(1.0, gt=0, le=1)
    """Share of the time that steps may take: below 1 the loop pauses after each step, so that the
    machine stays usable. The result does not change."""

    @model_validator(mode="before")
    @classmethod
    def _rows_of_a_step_are_fixed(cls, data: object) -> Any:
        for key in ("batch_size", "accumulate"):
            if isinstance(data, dict) and data.get(key) == "auto":
                raise ValueError(
                    f"train.{key} = 'auto' would leave open how many rows a step learns from. Give "
                    "train.batch_size that number, and set train.microbatch = 'auto': then memory "
                    "decides how many of them are computed at once."
                )
        return data

    @model_validator(mode="after")
    def _layers_can_be_shared(self) -> "Train":
        if self.tensor_parallel == 1:
            return self
        if self.shard_optimizer:
            raise ValueError(
                "shard_optimizer shards state that processes replicate, and tensor_parallel leaves "
                "each a state of its own: set one of them."
            )
        if not self.clip.pointwise:
            raise ValueError(
                f"clip.kind = '{self.clip.kind}' looks at whole rows of a matrix, and with "
                "tensor_parallel a process has a part of them: take 'norm' or 'none'."
            )
        return self

    @model_validator(mode="after")
    def _microbatches_share_a_step(self) -> "Train":
        rows, microbatch = self.batch_size * self.accumulate, self.microbatch
        if isinstance(microbatch, int) and rows % microbatch:
            fit = [n for n in range(1, rows + 1) if rows % n == 0]
            near = min(fit, key=lambda n: abs(n - microbatch))
            raise ValueError(
                f"train.microbatch = {microbatch} does not divide the {rows} rows of a step "
                f"(batch_size · accumulate) evenly. Take {near}."
            )
        return self

    @model_validator(mode="after")
    def _stages_are_whole_microbatches(self) -> "Train":
        if self.batch_schedule and self.microbatch == "auto":
            raise ValueError(
                "batch_schedule counts in microbatches, and train.microbatch = 'auto' leaves their "
                "size open: give train.microbatch a number."
            )
        at_once, _ = self.divided
        step_rows, before = self.batch_size * self.accumulate, 0
        for stage in self.batch_schedule:
            if stage.rows % at_once or stage.rows > step_rows:
                raise ValueError(
                    f"batch_schedule: {stage.rows} rows are no whole number of microbatches of "
                    f"{at_once} rows within a batch of {step_rows}. Set train.microbatch to a "
                    "divisor of all of them."
                )
            if stage.until <= before:
                raise ValueError(
                    f"batch_schedule: a stage until step {stage.until} comes after one until step "
                    f"{before}: sort the stages by `until`."
                )
            before = stage.until
        return self

    @model_validator(mode="after")
    def _warmup_lengthens(self) -> "Train":
        warmup = self.seq_len_warmup
        if warmup and not warmup.start + warmup.shapes <= self.seq_len + 1:
            raise ValueError(
                f"seq_len_warmup begins at {warmup.start} tokens in {warmup.shapes} lengths, and "
                f"train.seq_len is {self.seq_len}: begin with shorter rows."
            )
        return self

    @model_validator(mode="after")
    def _noise_can_be_measured(self) -> "Train":
        if not self.noise_scale:
            return self
        if self.tensor_parallel > 1:
            raise ValueError("noise_scale isn't measured with tensor_parallel: leave one out.")
        if self.microbatch == "auto":
            raise ValueError(
                "noise_scale compares microbatches with whole steps, and train.microbatch = 'auto' "
                "may make one of a step: give train.microbatch a number."
            )
        at_once, count = self.divided
        least = min([stage.rows for stage in self.batch_schedule], default=2 * at_once)
        if count < 2 or least < 2 * at_once:
            raise ValueError(
                "noise_scale compares microbatches with whole steps, so every step needs two at "
                "least: raise train.accumulate, or lower train.microbatch."
            )
        return self

    def microbatches(self, step: int) -> int:
        """Return the number of microbatches of a step, counted from 0."""
        rows, count = self.divided
        stage = next((stage for stage in self.batch_schedule if step < stage.until), None)
        return stage.rows // rows if stage else count

    def length(self, step: int) -> int:
        """Return the tokens of a row of a step, counted from 0."""
        warmup = self.seq_len_warmup
        return warmup.length(step, self.seq_len) if warmup else self.seq_len

    def rows_before(self, step: int) -> int:
        """Return the rows of all steps before one, counted from 0."""
        rows, before = 0, 0
        for stage in self.batch_schedule:
            until = min(stage.until, step)
            rows, before = rows + (until - before) * stage.rows, until
        return rows + (step - before) * self.batch_size * self.accumulate

    @property
    def tokens(self) -> int:
        """Tokens of all rows of the run."""
        short = min(self.steps, self.seq_len_warmup.steps) if self.seq_len_warmup else 0
        before = [self.rows_before(step) for step in range(short + 1)]
        rows = enumerate(pairwise(before))
        cut = sum((end - start) * self.length(step) for step, (start, end) in rows)
        return cut + (self.rows_before(self.steps) - before[-1]) * self.seq_len

    def steps_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the step that reads each row, both counted from 0: int64 [B]."""
        starts = [0, *(stage.until for stage in self.batch_schedule)]
        sizes = [*(stage.rows for stage in self.batch_schedule), self.batch_size * self.accumulate]
        first = np.cumsum([0, *(np.diff(starts) * sizes[:-1])])
        stage = np.searchsorted(first, rows, side="right") - 1
        steps: np.ndarray = (
            np.array(starts)[stage] + (rows - first[stage]) // np.array(sizes)[stage]
        )
        return steps

    def recomputed(self, n_layers: int) -> list[int]:
        """Indices of the recomputed blocks among `n_layers`; none where the planner will choose."""
        if isinstance(self.recompute, list):
            return self.recompute
        if self.recompute in ("none", "auto"):
            return []
        step = 1 if self.recompute == "all" else int(self.recompute.split()[1])
        return list(range(0, n_layers, step))

    @property
    def divided(self) -> tuple[int, int]:
        """Rows of a microbatch, and microbatches of a step; "auto" counts as all rows at once."""
        rows = self.batch_size * self.accumulate
        if self.microbatch == "given":
            return self.batch_size, self.accumulate
        at_once = self.microbatch if isinstance(self.microbatch, int) else rows
        return at_once, rows // at_once


class Eval(Config):
    """Interval and size of evaluations."""

    every: int = Field(ge=1)
    """Steps between evaluations; there is always one after the last step."""
    batches: int | None = Field(None, ge=1)
    """Batches of each evaluation; none means the whole validation split."""
    batch_size: int | None = Field(None, ge=1)
    """Rows of an evaluation batch; none means train.batch_size."""
    patience: int | None = Field(None, ge=1)
    """Early stopping: evaluations without a new best before the run stops; none never stops it."""


_ASYNC = Field(
    False,
    description="Whether a checkpoint is written in a thread beside the training, which holds the "
    "saved weights and optimizer state in memory until then.",
)
_Async = create_model("_Async", __base__=Config, **{"async": (bool, _ASYNC)})  # type: ignore[call-overload]
"""A config with the key `async`, a word of Python, so that no class body can spell it."""


class Checkpoints(_Async):
    """Interval and number of checkpoints."""

    every: int = Field(ge=1)
    """Steps between checkpoints; one more is saved at the end, and at each new best."""
    keep: int = Field(2, ge=1)
    """Number of newest checkpoints to keep, besides the best by the objective's metric."""

    @property
    def in_background(self) -> bool:
        """The key `async`."""
        return bool(dict(self)["async"])


class Log(Config):
    """Reports, samples and trackers during the run."""

    every: int = Field(10, ge=1)
    """Steps between reports, each a mean over its steps."""
    sample_every: int | None = Field(None, ge=1)
    """Steps between samples of generated text; none writes none."""
    sample_prompt: str = "\n"
    """Prompt of the samples."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra `tensorboard`)."""
    wandb: str | None = None
    """Weights & Biases project to report to (extra `wandb`)."""
