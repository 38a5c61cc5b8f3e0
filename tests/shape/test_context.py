"""The context of a forward pass stays small: what one model family needs is no field of it."""

from dataclasses import fields

import pytest

from mlx_transformers.core.context import Collected, Context, Cursor, Layout

MOST = 10


@pytest.mark.parametrize("part", [Context, Layout, Cursor, Collected])
def test_no_part_of_the_context_has_more_than_ten_fields(part: type) -> None:
    assert len(fields(part)) <= MOST


def test_facts_and_cursor_cannot_be_changed_by_a_layer() -> None:
    ctx = Context()
    for part, name in ((ctx.layout, "causal"), (ctx.cursor, "offset")):
        with pytest.raises(AttributeError):
            setattr(part, name, 1)
