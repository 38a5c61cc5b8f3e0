"""Stop strings are found and cut out, however the text arrives."""

import random

import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.stop import StopStrings


def passed(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """What comes out, and whether a stop string was found."""
    filter_ = StopStrings(stops)
    text = "".join(filter_.push(piece) for piece in pieces)
    return text + filter_.flush(), filter_.found


def definition(text: str, stops: list[str]) -> tuple[str, bool]:
    """Read letter by letter; end as soon as what was read ends in a stop string."""
    for end in range(1, len(text) + 1):
        ends = [stop for stop in stops if text[:end].endswith(stop)]
        if ends:
            return text[: end - max(map(len, ends))], True
    return text, False


def test_output_does_not_depend_on_how_the_text_is_cut() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("ab\n") for _ in range(rng.randint(0, 12)))
        stops = ["".join(rng.choice("ab\n") for _ in range(rng.randint(1, 4))) for _ in range(2)]
        cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert passed(pieces, stops) == definition(text, stops), (pieces, stops)


def test_text_is_held_back_only_while_it_may_be_a_stop_string() -> None:
    stop = StopStrings(["END"])
    assert [stop.push(p) for p in ("a", "E", "N", "x", "bE", "E")] == ["a", "", "", "ENx", "b", "E"]
    assert stop.push("ND and more") == ""
    assert stop.found
    assert stop.push("never") == ""
    assert stop.flush() == ""


def test_an_unfinished_stop_string_is_output_at_the_end() -> None:
    assert passed(["abE", "N"], ["END"]) == ("abEN", False)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(RunError, match="stop string is empty"):
        StopStrings(["a", ""])
