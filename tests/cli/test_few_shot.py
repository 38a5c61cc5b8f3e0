"""`mlxt eval --questions`: examples, chains of thought, votes and shuffled choices."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from decode.models import decoder
from typer.testing import CliRunner

from mlx_transformers.chat.assistant import Assistant, Piece
from mlx_transformers.chat.calculator import Calculator
from mlx_transformers.chat.chat_format import ChatFormat
from mlx_transformers.chat.toolbox import Toolbox
from mlx_transformers.cli import generate as generate_module
from mlx_transformers.cli.generate import generate
from mlx_transformers.cli.think import think
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.chat_template import TAGS, ChatTemplate
from mlx_transformers.data.corpora.arithmetic import Arithmetic, digit_by_digit
from mlx_transformers.data.corpora.calculator import TOOL
from mlx_transformers.data.corpora.in_context import InContext
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.char import CharTokenizer
from mlx_transformers.report import plot
from mlx_transformers.verbs import chat as chat_verb
from mlx_transformers.verbs.questions import few_shot as module
from mlx_transformers.verbs.questions import think as think_verb
from mlx_transformers.verbs.questions import tool_use as tool_verb
from mlx_transformers.verbs.questions.few_shot import Asker, FewShot
from mlx_transformers.verbs.questions.question import (
    FORM,
    Question,
    check_readable,
    extract_answer,
    prompt,
    read_questions,
)
from mlx_transformers.verbs.questions.think import Thinking, compute_curve, thought_of

SUMS = [Question(f"{a}+{a}?", str(2 * a), (), f"{a} twice.") for a in range(8)]
COLOURS = [Question(f"Colour of {w}?", c, ("red", "blue")) for w, c in
           (("sky", "blue"), ("blood", "red"), ("sea", "blue"))]  # fmt: skip


def test_a_form_with_characters_that_a_tokenizer_lacks_is_refused_with_its_option():
    digits = CharTokenizer(sorted("0123456789=+"))
    check_readable("{question}={answer}", digits)
    with pytest.raises(RunError, match=r"'Q' .* --form '\{question\}=\{answer\}'"):
        check_readable(FORM, digits)


def asker(how, pool, monkeypatch, answer=None, score=None, embed=None):
    """An asker whose model answers with `answer(prompt, seed)`, and scores with `score(text)`."""
    seen = []

    def generate(model, tokenizer, texts, *, seed, **options):
        seen.extend(texts)
        return [[SimpleNamespace(text=answer(text, seed))] for text in texts]

    def scores(model, windows):
        texts = [bytes(window.tokens).decode() for window in windows]
        seen.extend(texts)
        return [SimpleNamespace(loglikelihood=score(text)) for text in texts]

    monkeypatch.setattr(module, "generate_batch", generate)
    monkeypatch.setattr(module, "score_windows", scores)
    model = SimpleNamespace(max_seq_len=10_000)
    return Asker(model, ByteTokenizer(), how, pool, embed), seen


def test_rows_are_read_in_the_published_forms(tmp_path):
    file = tmp_path / "q.jsonl"
    rows = [
        {"question": "2+2?", "answer": "Two twice.\n#### 4"},
        {"question": "Sky?", "choices": ["red", "blue"], "answer": 1},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    first, second = read_questions(file)
    assert (first.answer, first.reasoning) == ("4", "Two twice.")
    assert (second.answer, second.choices) == ("blue", ("red", "blue"))
    for bad in ('{"question": "a"}', '{"question": "a", "answer": 5, "choices": ["b"]}', "["):
        file.write_text(json.dumps(rows[0]) + "\n" + bad)
        with pytest.raises(RunError, match="line 2"):
            read_questions(file)


def test_prompts_show_examples_before_the_question():
    text = prompt([SUMS[2]], SUMS[3], chains=True, letters=False)
    assert text == "Question: 2+2?\nAnswer: 2 twice. The answer is 4.\n\nQuestion: 3+3?\nAnswer:"
    text = prompt([COLOURS[0]], COLOURS[1], chains=False, letters=True)
    assert text.startswith("Question: Colour of sky?\nA. red\nB. blue\nAnswer: B\n\n")
    assert extract_answer("So. The answer is 3.5. Next", chains=True) == "3.5"
    assert extract_answer("no idea", chains=True) == "[invalid]"
    assert extract_answer(" 7 \nmore", chains=False) == "7"


def test_examples_are_never_the_question_and_accuracy_is_counted(monkeypatch):
    one, seen = asker(FewShot(), SUMS, monkeypatch, lambda text, seed: " 4\n")
    point = one.accuracy(SUMS, 3)
    assert point.accuracy.value == 1 / 8
    for question, text in zip(SUMS, seen, strict=True):
        assert (text.count("Question:"), text.count(question.text)) == (4, 1)
    with pytest.raises(RunError, match="more than 8"):
        one.accuracy(SUMS, 8)
    twice, _ = asker(FewShot(), [SUMS[1], SUMS[1], SUMS[2]], monkeypatch, lambda *_: "")
    with pytest.raises(RunError, match=r"2 examples are more than the 1 questions that differ"):
        twice.accuracy(SUMS[1:2], 2)


def test_the_nearest_examples_stand_last(monkeypatch):
    def embed(texts):
        return np.array([[1.0, int(text[0]) / 10] for text in texts])

    one, seen = asker(FewShot("nearest"), SUMS, monkeypatch, lambda *_: "", embed=embed)
    one.accuracy(SUMS[7:], 2)
    assert seen[0].index("5+5") < seen[0].index("6+6") < seen[0].index("7+7")


def test_the_most_frequent_of_drawn_answers_counts(monkeypatch):
    how = FewShot(chains=True, votes=3)
    drawn = {0: "The answer is 2.", 1: "The answer is 9.", 2: "The answer is 2."}
    one, seen = asker(how, SUMS, monkeypatch, lambda text, seed: drawn[seed])
    assert one.accuracy(SUMS[1:2], 0).accuracy.value == 1
    assert "step by step" in seen[0]


def test_own_chains_stay_where_they_reach_the_answer(monkeypatch):
    bare = [Question(one.text, one.answer) for one in SUMS]
    one, _ = asker(FewShot(chains=True), bare, monkeypatch, lambda *_: "Hm. The answer is 4.")
    assert [q.reasoning for q in one.with_own_chains(8)._pool] == ["Hm."]
    with pytest.raises(RunError, match="None of the model's 2 chains"):
        one.with_own_chains(2)


def test_shuffled_choices_are_answered_by_vote(monkeypatch):
    def first_letter(text):
        return float(text.endswith("A"))

    def blue(text):
        return float(text.endswith("blue"))

    one, _ = asker(FewShot(), COLOURS, monkeypatch, score=blue)
    assert one.accuracy(COLOURS, 1).accuracy.value == pytest.approx(2 / 3)
    one, seen = asker(FewShot(shuffles=8), COLOURS, monkeypatch, score=first_letter)
    one.accuracy(COLOURS, 0)
    assert {"A. red" in text for text in seen} == {True, False}


def test_options_that_do_not_go_together_are_refused(mlxt, home):
    (home / "q.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    for arguments, words in (
        (("--questions", "q.jsonl", "--shots", "two"), "e.g. 1,2,4,8"),
        (("--questions", "q.jsonl", "--shots", ""), "--shots : give whole numbers"),
        (("--questions", "q.jsonl", "--task", "masked"), "--task doesn't go with --questions"),
        (("--questions", "q.jsonl", "--pick", "best"), "random or nearest"),
        (("--questions", "q.jsonl", "--embedder", "x"), "--pick nearest"),
        (("--chains",), "--chains is for --questions"),
        (("--shots", "2"), "--shots is for --questions or --tasks"),
    ):
        outcome = mlxt("eval", *arguments)
        assert outcome.code == 1
        assert words in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{}, {"choices": ["b", "c"]}], {}, "make a file of each"),
        ([{"choices": ["b", "c"]}], {"chains": True}, "--chains and --votes are for answers"),
        ([{"choices": ["b", "c"]}], {"votes": 3}, "take --shuffles"),
        ([{}], {"shuffles": 2}, "--shuffles is for questions with 'choices'"),
    ],
    ids=str,
)
def test_settings_without_an_effect_on_the_questions_are_refused(tmp_path, rows, options, words):
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(json.dumps({"question": "a", "answer": "b"} | row) for row in rows))
    with pytest.raises(RunError, match=words):
        module.learning_curve(None, file, [0], FewShot(**options))


def test_a_budget_takes_no_options_of_samples(mlxt, home):
    asked = ("think", "--questions", "q.jsonl", "--chains", "--budgets", "0,8", "--temp", "0.5")
    outcome = mlxt(*asked)
    assert outcome.code == 1
    assert "--temp doesn't go with --budgets: leave it out" in outcome.err


def test_a_line_separator_within_a_question_does_not_end_its_row(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a\u2028b?", "answer": "c"}\n')
    assert [each.text for each in read_questions(file)] == ["a\u2028b?"]


@pytest.mark.parametrize("row", ["5", "[]", "[" * 100_000, '{"question": 1}', "9" * 5_000])
def test_a_row_that_is_no_question_is_named_by_its_line(tmp_path, row):
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"question": "a?", "answer": "b"}}\n{row}\n')
    with pytest.raises(RunError, match=r"rows\.jsonl, line 2: a row has"):
        read_questions(file)


CALLING = '<call>{"name": "calculator", "arguments": {"expression": "2*3"}}</call>'


class Calling(Assistant):
    """Calls the calculator where it has one, then repeats the result; guesses 5 otherwise."""

    def stream(self, request):
        asked = bytes(request.tokens).decode()
        result = asked.rpartition("<tool>")[2].partition("</tool>")[0]
        text = result if "<tool>" in asked else CALLING if "<tools>" in asked else "5"
        yield Piece(text, end="stop")


@pytest.fixture
def calling(monkeypatch):
    """Runs open as a model that calls; `--set` chooses its tools, as for other runs."""
    form = ChatFormat(ChatTemplate(TAGS), ByteTokenizer())
    model = decoder(context=512, vocab_size=256)

    def opened(run, *, set=()):
        tools = [Calculator()] if "tools.calculator=true" in set else []
        return Calling(model, ByteTokenizer(), form), Toolbox(tools), "tiny"

    monkeypatch.setattr(chat_verb, "open_assistant", opened)
    monkeypatch.setattr(tool_verb, "open_assistant", opened)
    monkeypatch.setattr(generate_module, "one_run", lambda run, named, draft: run)


def test_tools_are_measured_without_them_and_with_them(calling, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "2 times 3", "answer": 6}\n{"prompt": "5", "answer": "5"}\n')
    assert Toolbox([Calculator()]).schemas() == [TOOL]
    without, used = tool_verb.with_and_without_tools(None, file, set=["tools.calculator=true"])
    assert (without.tools, without.accuracy.value, without.called) == (False, 0.5, 0.0)
    assert (used.tools, used.accuracy.value, used.called) == (True, 0.5, 1.0)
    with pytest.raises(RunError, match="has no tools"):
        tool_verb.with_and_without_tools(None, file)
    file.write_text('{"question": "2?", "answer": "2", "choices": ["2", "3"]}\n')
    for measured in (
        lambda: tool_verb.with_and_without_tools(None, file),
        lambda: compute_curve(None, file, Thinking(samples=(1,))),
    ):
        with pytest.raises(RunError, match="'choices' or 'examples'"):
            measured()


def test_generate_answers_messages_with_tools(calling):
    app = typer.Typer()
    app.command()(generate)
    asked = ["--prompt", "2 times 3", "--tools"]
    result = CliRunner().invoke(app, [*asked, "--set", "tools.calculator=true"])
    assert result.stdout == "6\n"
    assert result.stderr == '[calculator {"expression": "2*3"}]\n6\n'
    result = CliRunner().invoke(app, [*asked, "--set", "tools.calculator=true", "--json"])
    assert json.loads(result.stdout)["calls"] == [
        {"name": "calculator", "arguments": {"expression": "2*3"}, "result": "6"}
    ]
    for options, words in (
        (asked, "no tools"),
        ([*asked, "--beams", "2"], "--beams"),
        (["--prompt", "a", "--set", "tools.calculator=true"], "give both"),
    ):
        error = CliRunner().invoke(app, options).exception
        assert isinstance(error, RunError)
        assert words in str(error)


def test_a_form_replaces_the_text_of_an_example(monkeypatch):
    form = "{question} = {answer}"
    text = prompt([SUMS[2]], SUMS[3], chains=False, letters=False, form=form)
    assert text == "2+2? = 4\n\n3+3? ="
    how = FewShot(form="{question}{answer}")
    found, seen = asker(how, SUMS, monkeypatch, lambda text, seed: "6\nmore")
    assert found.accuracy(SUMS, 1).accuracy.value == 1 / 8
    assert all(text.endswith("?") for text in seen)
    with pytest.raises(RunError, match="at its end"):
        FewShot(form="{answer}{question}")


def thinking(monkeypatch, write):
    """Runs open as a model that writes `write(prompt, sample, tokens)`."""
    calls = []

    def generate(model, tokenizer, texts, *, samples=1, max_tokens=0, **options):
        calls.append((texts, max_tokens))
        drawn = [[write(text, s, max_tokens) for s in range(samples)] for text in texts]
        return [[SimpleNamespace(text=t, tokens=len(t)) for t in row] for row in drawn]

    monkeypatch.setattr(think_verb, "generate_batch", generate)
    loaded = (decoder(context=64, vocab_size=256), ByteTokenizer())
    monkeypatch.setattr(think_verb, "load", lambda run: loaded)
    return calls


def test_accuracy_by_samples_is_that_of_a_vote_of_a_reward_and_of_any(monkeypatch, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "1+1=", "answer": 2}\n{"prompt": "2+2=", "answer": 4}\n')
    answers = {"1+1=": "5223", "2+2=": "1114"}
    thinking(monkeypatch, lambda text, s, n: answers[text][s])
    monkeypatch.setattr(think_verb, "_rewards", lambda *_: np.array([[0, 0, 1, 0], [3, 2, 1, 9]]))
    how = Thinking(samples=(1, 3, 4), reward="judge", form="{question}{answer}")
    points = compute_curve(None, file, how)
    found = {(point.rule, point.amount): point.accuracy.value for point in points}
    assert [found["majority", n] for n in (1, 3, 4)] == [0.0, 0.5, 0.5]
    assert [found["reward", n] for n in (1, 3, 4)] == [0.0, 0.5, 1.0]
    assert [found["any", n] for n in (1, 3, 4)] == [0.0, 0.5, 1.0]
    assert [point.tokens for point in points if point.rule == "any"] == [1.0, 3.0, 4.0]


def test_a_chain_is_cut_at_its_budget_and_asked_for_its_answer(monkeypatch, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "5+8=", "answer": 13}\n')
    chain = "5+8=13 The answer is 13."

    def write(text, s, n):
        return (" 13." if "5+8=13" in text else " 7.") if "answer" in text else chain[:n]

    calls = thinking(monkeypatch, write)
    how = Thinking(budgets=(0, 3, 24), chains=True, form="{question}{answer}")
    points = compute_curve(None, file, how)
    assert [point.accuracy.value for point in points] == [0.0, 0.0, 1.0]
    asked = [texts[0] for texts, _ in calls if "answer" in texts[0]]
    assert asked == ["5+8=" + thought + "The answer is" for thought in ("", "5+8 ", "5+8=13 ")]
    assert points[0].tokens < points[1].tokens < points[2].tokens


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of them"),
        ({"samples": (0,)}, "1 or more"),
        ({"budgets": (4,)}, "--chains"),
        ({"samples": (2,), "temp": 0.0}, "above 0"),
    ],
    ids=str,
)
def test_compute_that_makes_no_curve_is_refused(options, words):
    with pytest.raises(RunError, match=words):
        Thinking(**options)


def test_a_curve_is_printed_before_it_is_drawn(monkeypatch, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "1+1=", "answer": 2}\n')
    thinking(monkeypatch, lambda text, s, n: "2")

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(plot, "measure_curves", broken)
    app = typer.Typer()
    app.command()(think)
    asked = ["--questions", str(file), "--samples", "1", "--json", "--plot"]
    result = CliRunner().invoke(app, [*asked, str(tmp_path / "a.svg")])
    assert json.loads(result.stdout)[0]["accuracy"]["value"] == 1.0
    error = CliRunner().invoke(app, [*asked, str(tmp_path / "none" / "a.svg")]).exception
    assert isinstance(error, RunError)
    assert "no folder" in str(error)


def test_sums_are_added_digit_by_digit():
    assert digit_by_digit(583, 269) == "3+9=12 8+6+1=15 5+2+1=8 "
    assert digit_by_digit(0, 7) == "0+7=7 "
    row = Arithmetic({"operators": "+", "scratchpad_share": 1}).records[0]
    assert row["completion"].endswith(f"The answer is {row['answer']}.")


def test_examples_of_a_row_are_those_of_its_prompt(monkeypatch, tmp_path):
    row = InContext({"n_symbols": 4, "n_used": 2, "n_pairs": 6}).records[0]
    known = {one["question"]: one["answer"] for one in row["examples"]}
    assert len({*known, row["question"]}) <= 2
    assert known.get(row["question"], row["answer"]) == row["answer"]
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(row))
    questions = read_questions(file)
    how = FewShot(form="{question} {answer}")
    found, seen = asker(how, questions, monkeypatch, score=lambda text: text[-1] == row["answer"])
    assert found.accuracy(questions, 5).accuracy.value == 1.0
    assert row["text"] in {" ".join(text.split()) for text in seen}
    assert len(seen) == 4
    with pytest.raises(RunError, match="more than the 5"):
        found.accuracy(questions, 6)
    with pytest.raises(ValueError, match="n_used to 4 or fewer"):
        InContext({"n_symbols": 4, "n_used": 5})


@pytest.mark.parametrize(
    ("chain", "thought"),
    [
        ("3+4=7 0+9=9 The answer is 97.", "3+4=7 0+9=9"),
        ("3+4=7 0+9=9 The ans", "3+4=7 0+9=9"),
        ("3+4=7 0+9=9 T", "3+4=7 0+9=9"),
        ("3+4=7 0+", "3+4=7 0+"),
        ("a SOFT", "a SOFT"),
        ("The", ""),
    ],
)
def test_a_thought_ends_before_its_answer_even_where_that_is_cut(chain: str, thought: str) -> None:
    assert thought_of(chain) == thought
