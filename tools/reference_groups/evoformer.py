"""Group 11: the Evoformer of AlphaFold 2 and the block of ESMFold."""

import re
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten
from reference_ops.sequence_block import SequenceBlock

from mlx_transformers.layers.evoformer.block import EvoformerBlock
from mlx_transformers.layers.evoformer.sizes import EvoformerSizes
from reference_groups.case import Arrays, Case, Rule

Built = TypeVar("Built", bound=nn.Module)

PAIRS = (
    (r"^pair_stack\.", "pairs."),
    (r"\bmlp_pair\.", "pair_transition."),
    (r"\btri_mul_out\b", "outgoing"),
    (r"\btri_mul_in\b", "incoming"),
    (r"\btri_att_start\b", "starting"),
    (r"\btri_att_end\b", "ending"),
    (r"\bpair_transition\.(?=layer|linear)", "transition."),
    (r"layer_norm_in", "norm"),
    (r"layer_norm_out", "out_norm"),
    (r"linear_(a|b)_p", r"\1"),
    (r"linear_(a|b)_g", r"\1_gate"),
    (r"(ing)\.layer_norm\b", r"\1.pair_bias.norm"),
    (r"(ing)\.linear\.", r"\1.pair_bias.linear."),
    (r"mha\.linear_(q|k|v|o)", r"attention.\1"),
    (r"mha\.linear_g", "attention.gate"),
    (r"(ing)\.linear_g", r"\1.gate"),
    (r"(ing)\.linear_z", r"\1.o"),
)
ALIGNMENT = (
    *PAIRS,
    (r"^msa_att_row\.layer_norm_z", "row.pair_bias.norm"),
    (r"^msa_att_row\.linear_z", "row.pair_bias.linear"),
    (r"^msa_att_row\.", "row."),
    (r"^msa_att_col\.(_msa_att\.)?", "column."),
    (r"^msa_transition\.", "transition."),
    (r"^outer_product_mean\.linear_1", "outer.left"),
    (r"^outer_product_mean\.linear_2", "outer.right"),
    (r"^outer_product_mean\.linear_out", "outer.o"),
    (r"^outer_product_mean\.", "outer."),
    (r"linear_1", "up"),
    (r"linear_2", "down"),
    (r"layer_norm(_m)?", "norm"),
)
SEQUENCE = (
    *PAIRS,
    (r"^layernorm_1", "attention.norm"),
    (r"^sequence_to_pair\.layernorm", "to_pair.norm"),
    (r"^sequence_to_pair\.proj", "to_pair.linear"),
    (r"^sequence_to_pair\.o_proj", "to_pair.o"),
    (r"^pair_to_sequence\.layernorm", "attention.pair_bias.norm"),
    (r"^pair_to_sequence\.", "attention.pair_bias."),
    (r"^seq_attention\.proj", "attention.qkv"),
    (r"^seq_attention\.o_proj", "attention.o"),
    (r"^seq_attention\.g_proj", "attention.gate"),
    (r"^mlp_seq\.", "transition."),
    (r"mlp\.0", "norm"),
    (r"mlp\.1", "up"),
    (r"mlp\.3", "down"),
)
"""Renamings of parameters, in order."""


def loaded(module: Built, params: Arrays, renamings: tuple[tuple[str, str], ...]) -> Built:
    """The module with the case's parameters in place of its own; all of them are needed."""
    named = {}
    for name, array in params.items():
        for pattern, new in renamings:
            name = re.sub(pattern, new, name)
        named[name] = array
    module.update(tree_unflatten(list(named.items())), strict=True)
    return module


def block_of(case: Case) -> tuple[EvoformerBlock, Arrays]:
    """The block of a case with its parameters, and its inputs as a batch of one."""
    options = case.options
    if options.get("global_column") or options.get("no_column_attention"):
        raise NotImplementedError("Global column attention, and none, aren't built.")
    sizes = EvoformerSizes(
        dim=options["c_m"],
        n_heads=options["heads_msa"],
        head_dim=options["hidden_msa"],
        pair_dim=options["c_z"],
        pair_heads=options["heads_pair"],
        pair_head_dim=options["hidden_pair"],
        triangle_dim=options["hidden_mul"],
        outer_dim=options["hidden_opm"],
        factor=options["transition"],
        outer_first=options.get("opm_first", False),
        outer_eps=options.get("opm_eps", 1e-3),
    )
    block = loaded(EvoformerBlock(sizes), case.params, ALIGNMENT)
    return block, {name: array[None] for name, array in case.inputs.items()}


def whole(case: Case) -> Arrays:
    """Both outputs, multiplied by their masks."""
    block, batch = block_of(case)
    mask, pair_mask = batch.get("msa_mask"), batch.get("pair_mask")
    m, z = block(batch["m"], batch["z"], mask, pair_mask)
    if mask is not None and case.options.get("masked"):
        m, z = m * mask[..., None], z * pair_mask[..., None]
    return {"m_out": m[0], "z_out": z[0]}


def sublayers(case: Case) -> Arrays:
    """The update of each sublayer, for the same inputs."""
    block, batch = block_of(case)
    m, z, mask, pair_mask = batch["m"], batch["z"], batch.get("msa_mask"), batch.get("pair_mask")
    pairs = block.pairs
    outputs = {
        "msa_row": block.row(m, z, mask),
        "msa_col": block.column(m, mask),
        "msa_transition": block.transition(m, mask),
        "outer_product_mean": block.outer(m, mask),
        "tri_mul_out": pairs.outgoing(z, pair_mask),
        "tri_mul_in": pairs.incoming(z, pair_mask),
        "tri_att_start": pairs.starting(z, pair_mask),
        "tri_att_end": pairs.ending(z, pair_mask),
        "pair_transition": pairs.transition(z, pair_mask),
    }
    if case.options.get("masked"):
        for name, array in outputs.items():
            real = mask if array.shape[1:3] == m.shape[1:3] and "msa" in name else pair_mask
            outputs[name] = array * real[..., None]
    return {name: array[0] for name, array in outputs.items()}


def sequence(case: Case) -> Arrays:
    """ESMFold's block."""
    options, params = case.options, case.params
    # `pair_head` is a head's width, or their number: the matrix of their biases has a row for each.
    pair_heads = len(params["tri_att_start.linear.weight"])
    block = SequenceBlock(
        options["sequence_dim"],
        options["pair_dim"],
        len(params["pair_to_sequence.linear.weight"]),
        pair_heads,
        factor=params["mlp_seq.mlp.1.weight"].shape[0] // options["sequence_dim"],
    )
    mask = case.inputs.get("mask")
    mask = None if mask is None else mask.astype(mx.float32)
    s, z = loaded(block, params, SEQUENCE)(case.inputs["s"], case.inputs["z"], mask)
    if mask is not None and options.get("masked"):
        s, z = s * mask[..., None], z * (mask[:, :, None] * mask[:, None])[..., None]
    return {"s_out": s, "z_out": z}


RULES = (
    Rule("EvoformerBlock and its submodules|sublayers", sublayers),
    Rule("EvoformerBlock|Evoformer block", whole),
    Rule("EsmFoldTriangularSelfAttentionBlock|ESMFold", sequence),
)
