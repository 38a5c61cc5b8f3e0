"""Stateful batches of recurrent models: truncated back-propagation through time (TBPTT).

Row b of a batch continues the text of row b of the previous batch (data/batches/streams.py), from
its last state. No gradient flows back through that state (Williams & Peng 1990; Mikolov et al.
2010).
"""

import mlx.core as mx
from mlx.utils import tree_map

from ..core.errors import RecipeError
from ..core.tree import Tree
from ..distributed.processes import Ranks
from ..models.model import Model


class RecurrentCarry:
    """The recurrent state after the last batch, per row; zeros before the first batch.

    It is not a parameter. Checkpoints hold it, so that a resumed run equals an uninterrupted one.

    Raises:
        RecipeError: the model has no state to carry, or several processes train it.
    """

    def __init__(self, model: Model, rows: int, ranks: Ranks) -> None:
        state = model.carried_state(rows)
        if state is None:
            raise RecipeError(
                "data.batch.kind = 'streams' is for a model that carries its recurrent state from "
                "batch to batch, and this one has none. Choose a recurrent model, or leave "
                "data.batch out."
            )
        if ranks.world > 1:
            raise RecipeError(
                "data.batch.kind = 'streams' is for a single process: each would have the state of "
                "its own rows, and a checkpoint holds that of one."
            )
        self.state: dict[str, Tree] = {"rows": state}

    def before(self, starts: mx.array) -> Tree:
        """Return the initial state of a batch, zero in the rows that `starts [B]` marks."""
        return tree_map(lambda x: mx.where(starts[:, None] != 0, 0.0, x), self.state["rows"])

    def keep(self, after: Tree) -> None:
        """Set the state for the next batch; elements that are not finite become zero."""

        def finite(x: mx.array) -> mx.array:
            x = mx.stop_gradient(x).astype(mx.float32)
            return mx.where(mx.isfinite(x), x, 0.0)

        self.state["rows"] = tree_map(finite, after)
