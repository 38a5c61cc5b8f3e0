"""Critique and revision by principles."""

from mlx_transformers.rl.completion import Answer
from mlx_transformers.rl.revise import Revise


def test_each_completion_is_criticised_and_revised_under_a_drawn_principle():
    table = {
        "principles": ["be kind", "be brief"],
        "critique": "{prompt}|{completion}|{principle}|",
        "revision": "{completion}|{critique}|",
        "rounds": 2,
    }
    asked = []

    def complete(texts, turn):
        asked.append((turn, texts))
        return [f"c{turn}" for _ in texts] if turn != 3 else ["", "new"]

    answers = [Answer("p", text, [1], [2], True, {}) for text in ("x", "y")]
    found = Revise.model_validate(table)(answers, complete, [3, 0])
    assert [turn for turn, _ in asked] == [0, 1, 2, 3]
    assert asked[0][1][0].split("|")[:2] == ["p", "x"]
    assert asked[0][1][0].split("|")[2] in table["principles"]
    assert asked[1][1] == ["x|c0|", "y|c0|"]
    assert asked[3][1] == ["c1|c2|", "c1|c2|"]
    assert found == ["c1", "new"]  # an empty revision leaves the text before it
