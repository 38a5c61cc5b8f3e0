"""Models to generate with: tiny random decoders, and one that says what it is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlx.core as mx

from mlx_transformers.assembly import registry  # noqa: F401
from mlx_transformers.models.decoder import Decoder, DecoderModel
from mlx_transformers.models.recurrent import Recurrent, RecurrentModel

VOCAB = 40
ROPE: dict[str, Any] = {"kind": "rope"}
LONGROPE: dict[str, Any] = {
    "kind": "longrope",
    "trained_len": 24,
    "short": [1.0, 1.0, 1.5, 2.0],
    "long": [1.0, 2.0, 4.0, 8.0],
}
GLU: dict[str, Any] = {"kind": "glu", "hidden_dim": 48, "activation": "silu"}
MOE: dict[str, Any] = {
    "kind": "moe",
    "n_experts": 4,
    "router": {"kind": "top_k", "top_k": 2, "normalize": True},
    "expert": {"kind": "glu", "hidden_dim": 24, "activation": "silu"},
}
DECODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 7},
    "learned positions": {"position": {"kind": "learned"}},
    "longrope past its training": {"position": ROPE | {"scaling": LONGROPE}},
    "experts": {"ffn": MOE},
    "experts in a window": {"ffn": MOE, "window": 5},
}


def decoder(
    context: int = 96,
    window: int | None = None,
    position: dict[str, Any] = ROPE,
    ffn: dict[str, Any] = GLU,
    vocab_size: int = VOCAB,
) -> DecoderModel:
    """A decoder of random weights, large enough that what it says depends on all it read."""
    mixer = {"kind": "attention", "n_heads": 4, "n_kv_heads": 2, "window": window, "dropout": 0.5}
    config = Decoder.model_validate(
        {
            "kind": "decoder",
            "dim": 32,
            "n_layers": 2,
            "max_seq_len": context,
            "embed": {"kind": "token"},
            "position": position,
            "block": {
                "placement": "pre",
                "norm": {"kind": "rms_norm"},
                "dropout": 0.5,
                "mixer": mixer,
                "ffn": ffn,
            },
            "norm": {"kind": "rms_norm"},
            "head": {"kind": "lm", "tied": False},
            "init": {"kind": "normal", "std": 0.3},
        }
    )
    mx.random.seed(1)
    model = config.build(vocab_size)
    mx.eval(model.parameters())
    return model


DYNAMIC: dict[str, Any] = {"kind": "dynamic", "factor": 4.0, "trained_len": 16}


def lstm() -> RecurrentModel:
    """A recurrent language model of random weights."""
    cell = {"kind": "lstm"}
    config = Recurrent.model_validate(
        {
            "kind": "recurrent",
            "dim": 32,
            "embed": {"kind": "token"},
            "stack": {"n_layers": 2, "cell": cell},
            "head": {"kind": "lm", "tied": False},
            "init": {"kind": "normal", "std": 0.5},
        }
    )
    mx.random.seed(1)
    model = config.build(VOCAB)
    mx.eval(model.parameters())
    return model


BATCHED: dict[str, Callable[[], Any]] = {
    **{name: partial(decoder, **options) for name, options in DECODERS.items()},
    "dynamic scaling": partial(decoder, position=ROPE | {"scaling": DYNAMIC}),
    "recurrent": lstm,
}


class Script:
    """A model that says `script` after a prompt of `n_prompt` tokens, then zeros."""

    tasks = frozenset({"causal_lm"})
    recompute_beyond = None

    def __init__(
        self, script: list[int], n_prompt: int, vocab_size: int = 257, context: int = 1000
    ) -> None:
        self.vocab_size, self.max_seq_len = vocab_size, context
        said = [0] * (n_prompt - 1) + script
        self._next = mx.array(said + [0] * (context + 1 - len(said)))
        self.recompute_beyond: int | None = None
        self.state: dict[str, Any] = {}

    def soft_prompt(self) -> None:
        """None stands before its rows."""

    def parameters(self) -> dict[str, Any]:
        return {}

    def init_state(
        self,
        batch: int,
        length: int,
        dtype: mx.Dtype,
        *,
        pad: mx.array | None = None,
        total_length: int | mx.array = 0,
        given: Any = None,
    ) -> dict[str, Any]:
        return {"offset": mx.array(0), "rows": mx.zeros((batch, 1))}

    def step(self, tokens: mx.array, state: Any) -> tuple[mx.array, Any]:
        batch, length = tokens.shape
        following = self._next[state["offset"] + mx.arange(length)]
        logits = (following[:, None] == mx.arange(self.vocab_size)) * 100.0
        logits = mx.broadcast_to(logits, (batch, length, self.vocab_size))
        return logits, state | {"offset": state["offset"] + length}


@contextmanager
def eager() -> Iterator[None]:
    """Nothing is compiled inside."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()
