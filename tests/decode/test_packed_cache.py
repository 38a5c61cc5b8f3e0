"""KV caches of few bits: near the plain ones, smaller, and refused where there is none."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.cache_size import state_bytes
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.packed_cache import CachePacking, packed_caches
from mlx_transformers.decode.sample import Sampling

from .test_speculative import RETENTION, model

WIDE = ["model.dim=64"]
GREEDY = Sampling(0.0)


def logits(target: Any, packing: CachePacking | None, chunks: list[int]) -> np.ndarray:
    """The logits of a text that is read in chunks."""
    state = target.init_state(1, 16)
    state["blocks"] = packed_caches(target, state["blocks"], packing)
    tokens, found, start = mx.arange(sum(chunks))[None], [], 0
    for n in chunks:
        out, state = target.step(tokens[:, start : start + n], state)
        found.append(out)
        start += n
    return np.array(mx.concatenate(found, axis=1))


@pytest.mark.parametrize("window", [None, 4])
def test_more_bits_are_nearer_to_the_plain_cache(tmp_path: Path, window: int | None) -> None:
    own = [] if window is None else [f"model.block.mixer.window={window}"]
    target = model(tmp_path, *WIDE, *own, std=0.2)
    plain = logits(target, None, [5, 1, 3])
    errors = []
    for bits in (8, 4):
        packing = CachePacking(bits, 32)
        found = logits(target, packing, [5, 1, 3])
        assert np.allclose(found, logits(target, packing, [1] * 9), atol=1e-4)
        errors.append(np.std(found - plain) / np.std(plain))
    assert 0 < errors[0] < 0.1
    assert errors[0] < errors[1] / 4


def test_a_packed_cache_has_the_bytes_of_its_bits(tmp_path: Path) -> None:
    target = model(tmp_path, *WIDE)
    sizes = []
    for packing in (None, CachePacking(8, 32), CachePacking(4, 32)):
        engine = Engine(target, sampling=GREEDY, packing=packing)
        engine.start([[5, 3, 5]])
        list(engine.tokens(3))
        sizes.append(state_bytes(engine.cache))
    # float32: a scale and an offset of 32 bits each per group of 32
    assert sizes[1] / sizes[0] == (8 + 2) / 32
    assert sizes[2] / sizes[0] == (4 + 2) / 32


def test_what_can_not_be_packed_is_refused(tmp_path: Path) -> None:
    narrow, recurrent = model(tmp_path), model(tmp_path, *RETENTION)
    with pytest.raises(RunError, match="a KV cache has 8 or 4 bits"):
        CachePacking(3)
    with pytest.raises(RunError, match="no groups of 48"):
        CachePacking(8, 48)
    with pytest.raises(RunError, match=r"8 features, no multiple .* 64: leave out --kv-bits\.$"):
        Engine(narrow, packing=CachePacking(8)).start([[1]])
    with pytest.raises(RunError, match=r"leave out --kv-bits, or give --kv-group-size 32\.$"):
        Engine(model(tmp_path, *WIDE), packing=CachePacking(8)).start([[1]])
    with pytest.raises(RunError, match=r"Layer 0 has no KV cache .* 'retention'"):
        Engine(recurrent, packing=CachePacking(8)).start([[1]])
