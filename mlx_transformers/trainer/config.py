"""The tables of a recipe that the trainer reads: `[train]`, `[eval]`, `[checkpoint]`, `[log]`."""

from typing import Annotated, Literal

from pydantic import Field

from ..optim.clip import ClipNone
from ..recipe.config import Config, Kind
from ..recipe.slot import Slot

Dtype = Literal["float32", "bfloat16", "float16"]


class Train(Config):
    """How long, how much at once, and with what care."""

    steps: int = Field(ge=1)
    """Optimizer steps."""
    batch_size: int = Field(ge=1)
    """Rows of one microbatch."""
    accumulate: int = Field(1, ge=1)
    """Microbatches per step; a step sees batch_size · accumulate · seq_len tokens."""
    microbatch: Literal["given", "auto"] = "given"
    """Whether microbatches have batch_size rows, or the planner divides the rows of a step,
    batch_size · accumulate, into as few microbatches as fit the memory."""
    seq_len: int = Field(ge=1)
    """Tokens of a row, T."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Decides the weights, the order of the data and every dropout mask."""
    dtype: Dtype = "float32"
    """What the forward and backward compute in; weights and optimizer stay float32."""
    clip: Annotated[Kind, Slot("clip")] = ClipNone()
    """How large a gradient may be."""
    recompute: Literal["none", "all", "auto"] | list[int] = "none"
    """Blocks whose activations are computed again in the backward pass to save memory; `auto` are
    as many as the planner finds that memory demands."""
    nonfinite: Literal["skip", "stop"] = "skip"
    """What a step with a NaN or infinite gradient does: change nothing, or end the run."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights; none keeps none."""


class Eval(Config):
    """When and on how much the model is measured."""

    every: int = Field(ge=1)
    """Steps between evaluations; there is always one after the last step."""
    batches: int | None = Field(None, ge=1)
    """Batches of each evaluation; none means the whole validation split."""
    batch_size: int | None = Field(None, ge=1)
    """Rows of an evaluation batch; none means train.batch_size."""
    patience: int | None = Field(None, ge=1)
    """Evaluations without a new best before the run stops early; none never stops it."""


class Checkpoints(Config):
    """When the run is saved, and what is kept."""

    every: int = Field(ge=1)
    """Steps between checkpoints; there is always one at the end, and one at each new best."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints that are kept; the best one by validation loss is kept too."""


class Log(Config):
    """What is written while the run goes on."""

    every: int = Field(10, ge=1)
    """Steps between reports; each is the mean of its steps."""
    sample_every: int | None = Field(None, ge=1)
    """Steps between samples of generated text; none writes none."""
    sample_prompt: str = "\n"
    """What a sample continues."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra `tensorboard`)."""
    wandb: str | None = None
    """Weights & Biases project to report to (extra `wandb`)."""
