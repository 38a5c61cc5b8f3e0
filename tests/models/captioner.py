"""A model kind in a file of its own: an encoder of patches that a decoder describes.

`python captioner.py '[["train", "recipe.toml"], ...]'` runs commands of mlxt with this kind
registered, and prints the exit code and the output of each. Its pictures are one pixel high: the
`source` of a batch, whose numbers are brightness.
"""

import contextlib
import io
import json
import sys
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import mlx_transformers  # noqa: F401 - before mlx: it chooses the BLAS

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from pydantic import Field

from mlx_transformers.assembly import registry as registry  # fills the other slots
from mlx_transformers.assembly.recipe import Recipe
from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.core.task import Task
from mlx_transformers.layers.block import Block, BlockModule
from mlx_transformers.layers.heads import vocabulary_head
from mlx_transformers.layers.kinds import HeadKind, InitKind, NormKind, State
from mlx_transformers.models.model import Arrays, Decodable, ModelKind, TowerSpec
from mlx_transformers.models.stack import Stack, TowerModule
from mlx_transformers.models.tower import Tower
from mlx_transformers.ops.unembedding import Unembedding
from mlx_transformers.recipe.slot import CLOSED, Slot, fill


class Captioner(ModelKind):
    """A vision transformer (Dosovitskiy et al. 2021) whose patches a decoder attends to."""

    kind: Literal["captioner"] = "captioner"
    tasks: ClassVar[frozenset[Task]] = frozenset({"seq2seq"})
    dim: int = Field(ge=1)
    """Width D."""
    max_seq_len: int = Field(ge=1)
    """Longest caption, in tokens, and largest picture, in patches."""
    patch: int = Field(ge=1)
    """Pixels of a patch."""
    n_layers: int = Field(ge=1)
    """Blocks of the vision tower."""
    block: Block
    """The block of the vision tower."""
    norm: Annotated[NormKind, Slot("norm")]
    """The normalisation after the vision tower."""
    decoder: Tower
    """The tower that writes; its blocks have a cross mixer."""
    head: Annotated[HeadKind, Slot("head")]
    """Vectors to logits."""
    init: Annotated[InitKind, Slot("init")]
    """How weights start."""

    def towers(self) -> list[TowerSpec]:
        blocks = [self.block] * self.n_layers
        vision = TowerSpec(
            "vision", self.dim, blocks, (self.norm,), reads_source=True, stride=self.patch
        )
        return [vision, self.decoder.spec("decoder", self.dim)]

    def context(self) -> int:
        return self.max_seq_len

    def build(self, vocab_size: int) -> "CaptionerModel":
        model = CaptionerModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.decoder.n_layers)
        return model


class Vision(nn.Module):
    """`(pixels [B, S], valid [B, S], ctx) -> (vectors [B, P, D], valid [B, P])`."""

    def __init__(self, config: Captioner) -> None:
        super().__init__()
        self.patch = config.patch
        self.pixels = nn.Linear(config.patch, config.dim)
        self.places = nn.Embedding(config.max_seq_len, config.dim)
        self.blocks: list[BlockModule] = [
            config.block.build(config.dim, config.max_seq_len) for _ in range(config.n_layers)
        ]
        self.norm = config.norm.build(config.dim)
        self.recomputed: frozenset[int] = frozenset()

    def layers(self) -> list[BlockModule]:
        return self.blocks

    def __call__(
        self, pixels: mx.array, valid: mx.array, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        filler = [(0, 0), (0, -pixels.shape[1] % self.patch)]
        pixels, valid = (mx.pad(x, filler) for x in (pixels, valid))
        patches = (pixels * valid).reshape(pixels.shape[0], -1, self.patch)
        valid = valid.reshape(patches.shape).any(axis=-1)
        x = self.pixels(patches) + self.places(mx.arange(patches.shape[1]))
        layout = Layout(causal=False, valid=valid)
        own = replace(ctx, layout=layout, cursor=Cursor(), key=ctx.split_key())
        for block in self.blocks:
            x = block(x, own)
        return self.norm(x), valid


class CaptionerModel(Decodable):
    """`(batch, ctx) -> logits [B, T, V]`, by the calls of its base class."""

    tasks = Captioner.tasks

    def __init__(self, config: Captioner, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size, self.max_seq_len = vocab_size, config.max_seq_len
        self.vision = Vision(config)
        self.decoder = TowerModule(config.decoder, vocab_size, config.dim, config.max_seq_len)
        self.head = vocabulary_head(config.head, vocab_size, config.dim)

    def stacks(self) -> list[Vision | Stack]:
        return [self.vision, self.decoder.stack]

    def see(self, batch: Arrays, ctx: Context) -> tuple[mx.array, mx.array]:
        source = batch["source"]
        valid = batch.get("source_valid", mx.ones(source.shape, mx.bool_))
        ctx.position = self.decoder.position
        return self.vision(source.astype(mx.float32) - self.vocab_size / 2, valid, ctx)

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        ctx.memory, ctx.memory_valid = self.see(batch, ctx)
        return self.decoder.embed_tokens(batch["tokens"], ctx)

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return self.decoder.forward(x, ctx)

    def transform(self, h: mx.array) -> mx.array:
        return self.head.transform(h)

    def unembedding(self) -> Unembedding:
        return self.head.unembedding(self.decoder.embed.table)

    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        memory, valid = self.see(given, Context())
        blocks = self.decoder.stack.init_state(batch, length, dtype, memory)
        return {"offset": mx.array(0), "blocks": blocks, "valid": valid}

    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        ctx = Context(cursor=Cursor(offset=state["offset"]), memory_valid=state["valid"])
        h, blocks = self.decoder.decode(tokens, state["blocks"], ctx)
        after = {"offset": state["offset"] + tokens.shape[1], "blocks": blocks}
        return self.head(h, self.decoder.embed.table), state | after


def run(command: list[str]) -> tuple[int, str]:
    """The exit code and the output of a command."""
    from mlx_transformers.cli.main import main

    out = io.StringIO()
    sys.argv = ["mlxt", *command]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


if __name__ == "__main__":
    # The server of forked.py has made a recipe already, without this kind.
    CLOSED.clear()
    fill("model", Captioner, of=ModelKind)
    Recipe.model_rebuild(force=True)
    print(json.dumps([run(command) for command in json.loads(sys.argv[1])]))
