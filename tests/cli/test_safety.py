"""`mlxt safety` on files in the published formats."""

import json

import pytest

from mlx_transformers.core.errors import MlxtError
from mlx_transformers.verbs import safety
from mlx_transformers.verbs.safety import Safety, measure_safety, read_rows


@pytest.fixture
def run(mlxt, home):
    assert mlxt("train", "tiny.toml", "--name", "r", "--set", "train.steps=1").code == 0


def test_measures_read_their_published_formats(mlxt, home, run):
    (home / "pairs.csv").write_text(
        'sent_more,sent_less,bias_type\n"the king","a king",age\n"a love","the love",age\n'
    )
    (home / "honest.tsv").write_text("template_masked\nthe king of [M]\na love [M]\n")
    (home / "words.txt").write_text("king\nsorrow\n")
    (home / "empty.txt").write_text("\n \n")
    (home / "asked.jsonl").write_text('{"prompt": "a king", "harmful": false}')
    words = {name: ["the king", "a love", "sorrow"] for name in "XYAB"}
    (home / "weat.json").write_text(json.dumps(words))

    def scores(*arguments):
        outcome = mlxt("safety", "r", *arguments, "--json")
        assert outcome.code == 0, outcome.err
        return {score["name"]: score["value"] for score in json.loads(outcome.out)["scores"]}

    found = scores("--measure", "crows_pairs", "--file", "pairs.csv")
    assert found["age"] == found["stereotype_preference"]
    arguments = ("--file", "honest.tsv", "--lexicon", "words.txt", "--samples", "2")
    arguments += ("--max-tokens", "3")
    assert 0 <= scores("--measure", "honest", *arguments)["honest"] <= 1
    assert scores("--measure", "weat", "--file", "weat.json")["weat_effect_size"] == 0
    for arguments, words in (
        (("--measure", "honest", "--file", "honest.tsv"), "--lexicon"),
        (("--measure", "toxicity", "--file", "honest.tsv"), "--classifier"),
        (("--measure", "crows", "--file", "pairs.csv"), "Did you mean 'crows_pairs'"),
        (("--measure", "crows_pairs", "--file", "honest.tsv"), "row 1: there is no field"),
        (("--measure", "refusals", "--file", "pairs.csv"), "no field 'prompt' or 'goal'"),
        (("--measure", "refusals", "--file", "asked.jsonl"), "no chat template"),
        (
            ("--measure", "weat", "--file", "weat.json", "--samples", "2", "--seed", "1"),
            "--samples and --seed don't go with --measure weat: leave them out",
        ),
        (
            ("--measure", "honest", "--file", "honest.tsv", "--lexicon", "empty.txt"),
            "empty.txt has no word",
        ),
    ):
        outcome = mlxt("safety", "r", *arguments)
        assert outcome.code == 1
        assert words in " ".join(outcome.err.split())


def test_tables_that_cannot_be_read_are_refused(tmp_path):
    for name, content in (
        ("a.csv", ""),
        ("a.jsonl", "{"),
        ("a.xls", "x"),
        ("b.tsv", "a\n"),
        ("c.jsonl", "5"),
        ("d.json", "[" * 100_000),
        ("e.csv", "a\n" + "x" * 200_000),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(MlxtError, match=name):
            read_rows(tmp_path / name)


def test_line_breaks_within_a_text_do_not_end_its_row(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text('prompt,n\n"two\nlines",1\n"a\u2028b",2\n')
    assert [row["prompt"] for row in read_rows(table)] == ["two\nlines", "a\u2028b"]
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"prompt": "a\u2028b"}\n')
    assert read_rows(lines) == [{"prompt": "a\u2028b"}]


def test_a_missing_table_is_named_without_numbers_of_the_system(tmp_path):
    with pytest.raises(MlxtError, match=r"none\.csv can't be read: No such file or directory\.$"):
        read_rows(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "rows", "harmful"),
    [
        ("a.csv", "prompt,harmful\nhow,true\nwhy,False\n", [True, False]),
        (
            "a.jsonl",
            '{"prompt": "how", "harmful": 1}\n{"prompt": "why", "harmful": 0}',
            [True, False],
        ),
        ("a.csv", "prompt,label,type\nhow,unsafe,figurative\nwhy,safe,contrast\n", [True, False]),
        ("a.csv", "prompt,type\nhow,contrast_homonyms\nwhy,homonyms\n", [True, False]),
        ("a.csv", "goal,target\nhow,Sure\nwhy,Sure\n", [True, True]),
    ],
)
def test_a_row_says_whether_its_prompt_is_harmful(
    tmp_path, monkeypatch, name: str, rows: str, harmful: list[bool]
) -> None:
    """A model that refuses "how" alone refuses all harmful prompts, and no other."""
    monkeypatch.setattr(safety, "open_assistant", lambda run: (None, None, ""))
    monkeypatch.setattr(
        safety, "_answer", lambda _, asked, how: "I can't" if asked[0]["content"] == "how" else ""
    )
    (tmp_path / name).write_text(rows)
    scores, _ = measure_safety(None, "refusals", tmp_path / name, Safety())
    found = {score.name: score.value for score in scores}
    expected = (
        {"refusal_rate": 0.5} if all(harmful) else {"refusal_rate": 1, "over_refusal_rate": 0}
    )
    assert found == expected


@pytest.mark.parametrize("row", ['{"prompt": "how"}', '{"prompt": "how", "label": "perhaps"}'])
def test_a_row_that_does_not_say_whether_it_is_harmful_is_named(tmp_path, row: str) -> None:
    (tmp_path / "a.jsonl").write_text(row)
    with pytest.raises(MlxtError, match=r"a\.jsonl, row 1: .*whether the prompt is harmful"):
        measure_safety(None, "refusals", tmp_path / "a.jsonl", Safety())
