"""The number of heads that a width of heads makes."""

from ...core.errors import RecipeError


def heads_of_width(dim: int, head_dim: int) -> int:
    """`dim / head_dim`.

    Raises:
        RecipeError: they don't divide.
    """
    if dim % head_dim:
        raise RecipeError(
            f"mixer.head_dim = {head_dim} does not divide model.dim = {dim}, so no number of "
            "heads follows. Choose a divisor."
        )
    return dim // head_dim
