"""Critique and revision by principles."""

import pytest
from contract.models import LLAMA
from contract.suite import parse, randomize

from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.rl.response import Judge, Response
from mlx_transformers.rl.revise import PrincipleReward, Revise


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

    answers = [Response("p", text, [1], [2], True, {}) for text in ("x", "y")]
    found = Revise.model_validate(table)(answers, complete, [3, 0])
    assert [turn for turn, _ in asked] == [0, 1, 2, 3]
    assert asked[0][1][0].split("|")[:2] == ["p", "x"]
    assert asked[0][1][0].split("|")[2] in table["principles"]
    assert asked[1][1] == ["x|c0|", "y|c0|"]
    assert asked[3][1] == ["c1|c2|", "c1|c2|"]
    assert found == ["c1", "new"]  # an empty revision leaves the text before it


def test_completions_are_judged_together_as_each_alone():
    model = parse("model", LLAMA | {"max_seq_len": 32}).build(257)
    table = {"run": "a", "principles": ["kind", "brief"], "template": "{completion} {principle}?"}
    reward = PrincipleReward.model_validate(table).build(
        Judge(randomize(model, 0), ByteTokenizer())
    )
    answers = [Response("p", text, [1], [2], True, {}) for text in ("a", "bcd", "e", "f" * 40, "")]
    alone = [reward([each])[0] for each in answers]
    assert reward(answers) == pytest.approx(alone, rel=1e-4)
    assert len(set(alone)) == len(alone)
