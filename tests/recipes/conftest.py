"""A small world of recipes: a root config with test-only kinds, and a folder to write files in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal
from unittest.mock import patch

import pytest
from pydantic import ConfigDict, Field, model_validator

from mlx_transformers.recipe.config import Config, Kind
from mlx_transformers.recipe.slot import KINDS, Slot


class Rms(Kind):
    """Root-mean-square normalisation."""

    kind: Literal["rms"] = "rms"
    eps: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the mean square."""


class Layer(Kind):
    """Layer normalisation."""

    kind: Literal["layer"] = "layer"
    eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Added to the variance."""
    bias: bool = True
    """Whether a bias is learned."""


class Attention(Kind):
    """Attention with n_heads heads."""

    kind: Literal["attention"] = "attention"
    n_heads: Annotated[int, Field(ge=1, le=64)]
    """Query heads."""
    n_kv_heads: int | None = None
    """Key and value heads; n_heads when left out."""
    window: int | None = None
    """How far back a position sees."""
    theta: float = 1e4
    """Base of the angles."""
    axes: tuple[int, ...] = (0, 1)
    """Which axes turn."""

    @model_validator(mode="after")
    def _divides(self) -> "Attention":
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads = {self.n_kv_heads} doesn't divide n_heads.")
        return self


class Retention(Kind):
    """Retention."""

    model_config = ConfigDict(allow_inf_nan=True)

    kind: Literal["retention"] = "retention"
    decay: float = float("inf")
    """How slowly the past fades."""


class Wrapped(Kind):
    """A mixer around a mixer."""

    kind: Literal["wrapped"] = "wrapped"
    inner: Annotated[Kind, Slot("mixer")]
    """What is wrapped."""


class Block(Config):
    """One layer of the stack."""

    mixer: Annotated[Kind, Slot("mixer")]
    """What mixes positions."""
    norm: Annotated[Kind, Slot("norm")] = Rms()
    """Before each branch."""
    dropout: float = 0.0
    """Share of activations dropped."""


class Decoder(Kind):
    """A stack of blocks."""

    kind: Literal["decoder"] = "decoder"
    dim: int
    """Model width."""
    pattern: tuple[str, ...] = ()
    """Names of blocks, repeated over the layers."""
    block: Block
    """What every layer is."""
    blocks: dict[str, Block] = Field(default_factory=dict)
    """Named layers, each a diff against block."""


class Train(Config):
    """The habits of the trainer."""

    steps: int = 100
    """Updates of the parameters."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the | forward."""
    recompute: Literal["none", "all"] | list[int] = "none"
    """Which layers are computed again."""
    betas: tuple[float, ...] | float = (0.9, 0.95)
    """Memory of the moments."""
    extra_norms: tuple[Annotated[Kind, Slot("norm")], ...] = ()
    """More norms."""
    name: str | None = None
    """What the run is called."""


class Toy(Config):
    """Everything a toy run is."""

    model: Annotated[Kind, Slot("model")]
    """The architecture."""
    teacher: Annotated[Kind, Slot("model")] | None = None
    """A model to learn from."""
    train: Train = Field(default_factory=Train)
    """How long."""


TOY_KINDS = {
    "model": {"decoder": Decoder},
    "mixer": {"attention": Attention, "retention": Retention, "wrapped": Wrapped},
    "norm": {"rms": Rms, "layer": Layer},
}

BASE = """
[model]
kind = "decoder"
dim = 64
[model.block.mixer]
kind = "attention"
n_heads = 4
window = 128
[model.block.norm]
kind = "rms"
eps = 1e-6
[train]
steps = 10
betas = [0.9, 0.99]
"""


@pytest.fixture(autouse=True)
def toy_kinds() -> Iterator[None]:
    """Only toy kinds, for the length of a test."""
    with patch.dict(KINDS, TOY_KINDS, clear=True):
        yield


@pytest.fixture
def toy() -> type[Config]:
    """The root config class."""
    return Toy


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a recipe into an empty current folder; base.toml is there already."""
    monkeypatch.chdir(tmp_path)

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    _write("base.toml", BASE)
    return _write
