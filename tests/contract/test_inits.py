"""Initial weights: the spread of every matrix, bounds, depth, and the seed."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from .inits import ROWS
from .models import LLAMA
from .suite import HEADS_WIDE as HEADS
from .suite import Row, parse

DIM, HIDDEN, LAYERS, VOCAB, EXPERTS = 64, 96, 3, 200, 4

BLOCK = {
    "placement": "pre",
    "norm": {"kind": "layer_norm"},
    "mixer": HEADS,
    "ffn": {"kind": "glu", "hidden_dim": HIDDEN, "activation": "silu", "bias": True},
}
MOE = {
    "kind": "moe",
    "n_experts": EXPERTS,
    "router": {"kind": "top_k", "top_k": 2, "normalize": True},
    "expert": BLOCK["ffn"],
}
