"""DeltaNet: a state that each token corrects at its own key."""

from typing import Literal

from .delta_heads import DeltaHeads, DeltaMixer


class Deltanet(DeltaHeads):
    """DeltaNet: `S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ`, `o_t = S_tᵀ q_t / √K`.

        q, k = l2(silu(conv(W x)))     v = silu(conv(W_v x))     β = σ(W_β x)     y = W_o norm(o)

    The state is a linear regression from keys to values, learned while reading: each token replaces
    the value at its key. Schlag et al. 2021; Yang et al. 2024, "Parallelizing Linear Transformers
    with the Delta Rule over Sequence Length", equation 2 and section 3. Causal in every pass.
    """

    kind: Literal["deltanet"] = "deltanet"

    def build(self, dim: int) -> DeltaMixer:
        return DeltaMixer(self, dim)
