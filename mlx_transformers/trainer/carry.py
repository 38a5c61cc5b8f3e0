"""What a recurrent model carries from one batch to the next: truncated backpropagation in time.

The text of row b goes on in row b of the next batch (data/batches/streams.py), and so does the
state, from which no gradient flows back (Williams & Peng 1990; Mikolov et al. 2010).
"""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from ..core.errors import RecipeError
from ..distributed.processes import Ranks
from ..models.model import Model

Tree = Any


class Carry:
    """The state after the last batch, one for each of its rows; zeros before the first one.

    It is no parameter: nothing optimises it. It is saved with a checkpoint, so that a run that is
    resumed goes on as if it had not been interrupted.

    Raises:
        RecipeError: the model has no state to carry, or several processes would share its rows.
    """

    def __init__(self, model: Model, rows: int, ranks: Ranks) -> None:
        state = model.carried_state(rows)
        if state is None:
            raise RecipeError(
                "data.batch.kind = 'streams' lays rows out for a model that carries its state from "
                "batch to batch, and this one carries none. Take a recurrent model, or leave "
                "data.batch out."
            )
        if ranks.world > 1:
            raise RecipeError(
                "data.batch.kind = 'streams' is for a single process: each keeps a state of its "
                "own rows, and a checkpoint holds that of one."
            )
        self.state: dict[str, Tree] = {"rows": state}

    def before(self, starts: mx.array) -> Tree:
        """The state to begin a batch with, empty in the rows that `starts [B]` marks."""
        return tree_map(lambda x: mx.where(starts[:, None] != 0, 0.0, x), self.state["rows"])

    def keep(self, after: Tree) -> None:
        """Go on from `after`, or from nothing where a number of it is not finite."""

        def sane(x: mx.array) -> mx.array:
            x = mx.stop_gradient(x).astype(mx.float32)
            return mx.where(mx.isfinite(x), x, 0.0)

        self.state["rows"] = tree_map(sane, after)
