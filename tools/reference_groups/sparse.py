"""Group 2: sparse patterns of attention, and attention sinks."""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten
from reference_ops.native_sparse import native_sparse

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots of positions)
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.layers.positions.rope import Rope
from mlx_transformers.layers.positions.xpos import Xpos
from mlx_transformers.ops.attention import attention
from mlx_transformers.ops.key_patterns import Factorised, first_tokens, joined_blocks, windowed
from mlx_transformers.ops.key_sets import KeySet, Tokens, attend, padded, union
from mlx_transformers.ops.masks import Mask
from mlx_transformers.recipe.slot import kind_of
from reference_groups.case import Arrays, Case, Rule

TO_ITSELF = -5e4
"""Score of a token with itself where queries and keys are shared (TOKEN_SELF_ATTN_VALUE)."""


def heads_first(x: mx.array) -> mx.array:
    """`[B, T, H, K]` as `[B, H, T, K]`, and the other way round."""
    return x.swapaxes(1, 2)


def attend_set(q: mx.array, k: mx.array, v: mx.array, seen: mx.array) -> KeySet:
    """Softmax attention over one set of keys, scaled by the width of a head."""
    return attend(q, k, v, scale=q.shape[-1] ** -0.5, seen=seen)


def sink_logits(case: Case) -> Arrays:
    """Softmax attention with a learned logit per head that has no value, in a window or none, with
    or without forget gates; a window of attention that isn't causal is ignored."""
    q, k, v = (heads_first(case.inputs[name]) for name in "qkv")
    options, causal = case.options, bool(case.options.get("causal", True))
    mask = Mask(causal=causal, window=options.get("window") if causal else None)
    bias = None
    if "g" in case.inputs:
        sums = mx.cumsum(heads_first(case.inputs["g"]), axis=2)
        bias = sums[..., :, None] - sums[..., None, :]
    scale = options.get("scale") or q.shape[-1] ** -0.5
    sinks = case.params.get("sink_bias", case.inputs.get("sink_bias"))
    return {"o": heads_first(attention(q, k, v, scale=scale, mask=mask, bias=bias, sinks=sinks))}


def factorised(case: Case) -> Arrays:
    """Sparse Transformer: the strided and the fixed pattern, each set alone and united."""
    options = case.options
    stride, c = options["stride_l"], options["c"]
    qkv = tuple(case.inputs[name][None] for name in "qkv")
    length = qkv[0].shape[2]
    rows = mx.arange(stride - c, length)
    strided = Factorised("strided", stride)
    fixed = Factorised("fixed", stride, c, options["num_verts"])
    paper = Factorised("fixed", stride, c)
    run = {
        "attend": attend_set,
        "tokens": Tokens.of(length, None, None),
        "qkv": qkv,
        "causal": True,
    }
    outs = {
        "out_local": [strided.near(**run)],
        "out_strided": [strided.far(**run)],
        "out_fixed_heads": [fixed.near(**run), fixed.far(**run, alone=False)],
        "out_fixed_1": [paper.near(**run)],
        "out_fixed_2": [paper.far(**run)],
        "out_merged_strided": [strided.near(**run), strided.far(**run, alone=False)],
    }
    found = {name: union(sets)[0] for name, sets in outs.items()}
    found["out_fixed_2"] = found["out_fixed_2"][:, rows]
    return (
        found
        | {"rows_fixed_2": rows.astype(mx.int64)}
        | masks(length, options["heads"], strided, fixed, paper)
    )


def masks(
    length: int, heads: int, strided: Factorised, fixed: Factorised, paper: Factorised
) -> Arrays:
    """The boolean masks of the patterns, `[T, T]` or `[H, T, T]`."""
    t, s = mx.arange(length)[:, None], mx.arange(length)[None]
    head = mx.arange(heads)[:, None, None]
    found = {
        "mask_local": strided.is_near(t, s),
        "mask_strided": strided.is_far(t, s),
        "mask_fixed_heads": fixed.is_near(t, s) | fixed.is_far(t, s, head),
        "paper_A1_strided": Factorised("strided", strided.stride + 1).is_near(t, s),
        "paper_A2_strided": strided.is_far(t, s),
        "paper_A1_fixed": paper.is_near(t, s),
        "paper_A2_fixed": paper.is_far(t, s),
    }
    return {name: (seen & (s <= t)).astype(mx.uint8) for name, seen in found.items()}


def local_blocks(case: Case) -> Arrays:
    """The package local-attention, with or without its rotary positions."""
    options, causal = case.options, bool(case.options.get("causal"))
    window, back = options["window"], options.get("look_backward", 1)
    ahead = options.get("look_forward")
    ahead = int(not causal) if ahead is None else ahead
    q, k, v = (case.inputs[name] for name in "qkv")
    length = q.shape[2]
    if options.get("autopad"):
        # keys of zeros fill up the last block, and are seen where attention isn't causal
        q, k, v = (padded(x, 0, -length % window) for x in (q, k, v))
    if options.get("rotary"):
        # the package counts a query's position from the end of the joined blocks
        shift = mx.arange(q.shape[2]) + ahead * window
        base = None
        if options.get("use_xpos"):
            base = options.get("xpos_scale_base") or window // 2
        q = rotated(q, shift, base=base)[0]
        k = rotated(k, mx.arange(q.shape[2]), base=base)[1]
    shared = bool(options.get("shared_qk"))
    if shared:
        k = k / mx.maximum(mx.linalg.norm(k, axis=-1, keepdims=True), 1e-12)
    scale = options.get("scale") or q.shape[-1] ** -0.5

    given = case.inputs.get("attn_bias", case.params.get("attn_bias"))  # [H, window, keys]

    def attend_blocks(q: mx.array, k: mx.array, v: mx.array, seen: mx.array) -> KeySet:
        own = mx.arange(k.shape[-2]) == mx.arange(window)[:, None] + window * back
        bias = mx.array(0.0) if given is None else given[:, None]
        bias = mx.where(own, TO_ITSELF, bias) if shared else bias
        return attend(q, k, v, scale=scale, seen=seen, bias=bias)

    def exact(q: mx.array, k: mx.array) -> mx.array:
        return (q - k <= window * back) & (k - q <= window * ahead)

    valid = next((m for name, m in case.inputs.items() if "mask" in name), None)
    if valid is not None:
        valid = padded(valid[..., None], 0, q.shape[2] - length)[..., 0]
    found = joined_blocks(
        attend_blocks,
        Tokens.of(q.shape[2], None, valid),
        (q, k, v),
        size=window,
        back=back,
        ahead=ahead,
        causal=causal,
        rule=exact if options.get("exact_windowsize") else None,
    )
    return {"out": union([found])[:, :, :length]}


def rotated(
    x: mx.array, positions: mx.array, theta: float = 10000.0, base: float | None = None
) -> tuple[mx.array, mx.array]:
    """Heads `[B, H, T, K]` rotated by RoPE at `positions [T]`, as queries and as keys: those
    differ where there is a `base` of xPos."""
    kind = Rope(theta=theta) if base is None else Xpos(theta=theta, base=base)
    places = mx.broadcast_to(positions[None], (x.shape[0], x.shape[2]))
    return kind.build(x.shape[-1], 1).rotate(x, x, Context(Layout(positions=places)))


def streaming(case: Case) -> Arrays:
    """StreamingLLM: the first tokens and the last, at positions within the cache."""
    options = case.options
    start, recent = options["start_size"], options["recent_size"]
    # the published loop evicts after a step, which then sees one token more
    before = "evict_for_space" in case.function or options.get("evict") == "before"
    window = recent if before else recent + 1
    q, k, v = (case.inputs[name] for name in "qkv")
    theta = options.get("rope_theta", 10000.0)

    def turn(x: mx.array, positions: mx.array) -> mx.array:
        return rotated(x, positions, theta)[0]

    length = q.shape[2]
    place = mx.arange(length)
    qkv = (turn(q, place), turn(k, place), v)
    run = {"attend": attend_set, "tokens": Tokens.of(length, None, None), "causal": True}
    sets = [windowed(qkv=qkv, window=window, **run)]
    if start:
        far_q = turn(q, mx.minimum(place, start + window - 1))
        sets.append(
            first_tokens(
                qkv=(far_q, *qkv[1:]),
                first=start,
                starts=None,
                rule=lambda q, k: q - k >= window,
                **run,
            )
        )
    slot = mx.arange(start + recent)[None]
    last = place[:, None]
    kept = mx.where(slot < start, slot, slot + mx.maximum(last + 1 - start - recent, 0))
    return {"out": union(sets), "kept": mx.where(kept <= last, kept, -1).astype(mx.int64)}


def selected_blocks(case: Case) -> Arrays:
    """Native sparse attention: means of blocks, and the blocks that they choose, gated.

    The blocks may be given, or how many each query reads of those that it chooses.
    """
    options = case.options
    q, k, v = (heads_first(case.inputs[name]) for name in "qkv")
    given, counts = (case.inputs.get(f"block_{name}") for name in ("indices", "counts"))
    scale = options.get("scale") or q.shape[-1] ** -0.5
    found = native_sparse(
        q,
        k,
        v,
        scale=scale,
        block=options["block"],
        n_blocks=options["blocks"] if counts is None else int(counts.max().item()),
        counts=None if counts is None else counts.swapaxes(1, 2),
        chosen=None if given is None else given.swapaxes(1, 2).astype(mx.int32),
    )
    outs = {
        "compressed": heads_first(found.compressed),
        "selected": heads_first(found.selected),
        "block_indices": found.chosen.swapaxes(1, 2).astype(mx.int64),
    }
    gates = {"compressed": case.inputs.get("g_cmp"), "selected": case.inputs.get("g_slc")}
    parts = [outs[name] * gate[..., None] for name, gate in gates.items() if gate is not None]
    if options.get("window") and "g_swa" in case.inputs:
        near = attention(q, k, v, scale=scale, mask=Mask(window=options["window"]))
        parts.append(heads_first(near) * case.inputs["g_swa"][..., None])
    return outs | {"out": sum(parts[1:], parts[0])}


PROJECTIONS = {
    "query": "q",
    "key": "k",
    "value": "v",
    **{f"{name}_global": f"global_{name[0]}" for name in ("query", "key", "value")},
}
"""Projections of transformers' attention layers, and ours."""


def layer(case: Case, kind: str, **fields: Any) -> Arrays:
    """An attention layer of transformers without its output projection, of vectors `[B, T, D]`."""
    x = next(case.inputs[name] for name in ("hidden_states", "x") if name in case.inputs)
    options, dim = case.options, x.shape[-1]
    heads = next(options[n] for n in ("num_attention_heads", "num_heads", "heads") if n in options)
    modules = {name.rsplit(".", 1)[0].rsplit(".", 1)[-1] for name in case.params}
    fields |= {"kind": kind, "n_heads": heads, "bias": any("bias" in n for n in case.params)}
    if kind == "longformer" and "query_global" in modules:
        fields["n_global"] = 0
    mixer = kind_of("mixer", kind).model_validate(fields).build(dim)
    held = {}
    for name, array in case.params.items():
        module, leaf = name.rsplit(".", 2)[-2:] if "." in name else (name, "weight")
        held[f"{PROJECTIONS.get(module, module)}.{leaf}"] = array
    mixer.update(tree_unflatten([*held.items(), ("o.weight", mx.eye(dim))]))
    valid, everywhere = (
        next((case.inputs[n] != 0 for n in names if n in case.inputs), None)
        for names in (("attention_mask", "mask"), ("global_attention_mask", "global_mask"))
    )
    layout = Layout(causal=False, valid=valid, global_tokens=everywhere)
    y = mixer(x, Context(layout))
    y = y if valid is None else mx.where(valid[..., None], y, 0.0)
    return {next(iter(case.cotangents), "out"): y}


def longformer(case: Case) -> Arrays:
    """Longformer's self-attention; `attention_window` counts both sides."""
    window = case.options.get("attention_window") or 2 * case.options["one_sided_window"]
    return layer(case, "longformer", window=window // 2 + 1)


def big_bird(case: Case) -> Arrays:
    """BigBird's block-sparse self-attention."""
    options = case.options
    return layer(
        case,
        "big_bird",
        block=options["block_size"],
        n_random=options.get("num_random_blocks", options.get("num_rand_blocks", 0)),
        seed=options.get("seed") or 0,
        random_in_eval=bool(options.get("training", False)),
        longest=options.get("max_position_embeddings", 4096),
    )


RULES = (
    Rule(r"LongformerSelfAttention", longformer),
    Rule(r"BigBirdBlockSparseAttention", big_bird),
    Rule(r"ops\.nsa|naive_nsa", selected_blocks),
    Rule(r"ops\.attn\.naive", sink_logits),
    Rule(r"get_attn_mask|get_blocksparse_obj", factorised),
    Rule(r"StartRecentKVCache", streaming),
    Rule(r"LocalAttention", local_blocks),
)
