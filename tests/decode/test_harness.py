"""The harness's three questions, asked as it asks them; answers beside a plain forward pass."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mlx_transformers.cli.evaluate import evaluate as verb
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.char import CharTokenizer
from mlx_transformers.verbs import lm_eval as module
from mlx_transformers.verbs.lm_eval import Responder, rolling_windows

from .models import decoder

BYTES = ByteTokenizer()
END = BYTES.eos_id
CONTEXT = 24


@dataclass
class Instance:
    """What the harness hands over: its arguments, and more that isn't read."""

    args: tuple
    doc: dict | None = None


@pytest.fixture
def answers():
    return Responder(decoder(CONTEXT, vocab_size=BYTES.vocab_size), BYTES)


def plain(answers, before, after):
    """The sum of log p of tokens, in a row of their own, and whether each is the likeliest."""
    tokens = [*before, *after]
    logits = np.array(answers.model(mx.array([tokens[:-1]]))[0], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    places = range(len(before), len(tokens))
    greedy = all(logits[i - 1].argmax() == tokens[i] for i in places)
    return sum(log_p[i - 1, tokens[i]] for i in places), greedy


def test_continuations_of_any_length_have_the_likelihood_of_their_own_row(answers):
    pairs = [("the king", " of"), ("a", " much longer text"), ("", "said")]
    pairs += [(f"{i}", f" {'x' * i}") for i in range(1, 9)]
    found = answers.loglikelihood([Instance(pair) for pair in pairs])
    for (context, continuation), (value, greedy) in zip(pairs, found, strict=True):
        expected = plain(answers, [*context.encode()] or [END], continuation.encode())
        assert value == pytest.approx(expected[0], rel=1e-4)
        assert greedy == expected[1]


def test_a_space_at_the_seam_belongs_to_what_follows(answers):
    one, two = answers.loglikelihood([Instance(("so be ", "it")), Instance(("so be", " it"))])
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    assert one[1] == two[1]


def test_a_context_that_is_too_long_loses_its_beginning(answers):
    context = "abcdefghijklmnopqrstuvwxyz" * 2
    ((value, _),) = answers.loglikelihood([Instance((context, "!!"))])
    kept = context.encode()[-(CONTEXT - 1) :]
    assert value == pytest.approx(plain(answers, kept, b"!!")[0], rel=1e-4)
    with pytest.raises(RunError, match="longer than the model's context of 24"):
        answers.loglikelihood([Instance(("a", "b" * 25))])


def test_windows_ask_for_every_token_once_behind_as_many_as_fit():
    """The example of the harness's own documentation."""
    windows = rolling_windows([-1], list(range(10)), 4)
    assert [w.tokens for w in windows] == [[-1, 0, 1, 2, 3], [3, 4, 5, 6, 7], [5, 6, 7, 8, 9]]
    assert [w.tokens[-w.scored :] for w in windows] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert rolling_windows([-1], [], 4) == []
    (one,) = rolling_windows([], [5, 6], 4)
    assert (one.tokens, one.scored) == ([5, 6], 2)


def test_a_text_has_the_likelihood_of_its_windows(answers):
    text = "to be or not to be, that is the question: whether"
    short, long, none = answers.loglikelihood_rolling(
        [Instance(("to be",)), Instance((text,)), Instance(("",))]
    )
    assert short == pytest.approx(plain(answers, [END], b"to be")[0], rel=1e-4)
    parts = [
        (w.tokens[: -w.scored], w.tokens[-w.scored :])
        for w in rolling_windows([END], list(text.encode()), CONTEXT)
    ]
    assert len(parts) == 3
    assert long == pytest.approx(sum(plain(answers, *part)[0] for part in parts), rel=1e-4)
    assert none == 0.0


def test_what_is_written_greedily_is_the_likeliest(answers):
    (text,) = answers.generate_until([Instance(("tell", {"until": [], "max_gen_toks": 6}))])
    tokens = [*b"tell"]
    for _ in range(6):
        tokens.append(int(answers.model(mx.array([tokens]))[0, -1].argmax()))
    assert text == BYTES.decode(tokens[4:])
    said = BYTES.decode(tokens[4:5])
    if "\ufffd" not in said:
        ((_, greedy),) = answers.loglikelihood([Instance(("tell", said))])
        assert greedy


def test_texts_end_before_what_is_given_and_unknown_options_are_refused(answers):
    ask = {"max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    (whole,) = answers.generate_until([Instance(("tell", ask))])
    (part,) = answers.generate_until([Instance(("tell", ask | {"until": [whole[2]]}))])
    assert part == whole[: whole.index(whole[2])]
    with pytest.raises(RunError, match="num_beams"):
        answers.generate_until([Instance(("tell", {"num_beams": 2}))])


def test_without_a_token_that_begins_a_text_its_first_is_not_scored():
    tokenizer = CharTokenizer(list("abc"))
    answers = Responder(decoder(CONTEXT, vocab_size=3), tokenizer)
    (value,) = answers.loglikelihood_rolling([Instance(("abca",))])
    assert value == pytest.approx(plain(answers, [0], [1, 2, 0])[0], rel=1e-4)
    assert answers.loglikelihood([Instance(("", "b"))]) == [(0.0, True)]


def test_a_run_becomes_a_model_of_the_harness(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(RunError, match=r"pip install 'mlxt\[harness\]'"):
        module.harness()

    class LM:
        """As much of the harness's base class as its callers read."""

        def __init__(self):
            self.rank, self.world_size = 0, 1

    fake = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model")}
    fake["lm_eval.api.model"].LM = LM
    for name, each in fake.items():
        monkeypatch.setitem(sys.modules, name, each)
    model = decoder(CONTEXT, vocab_size=BYTES.vocab_size)
    monkeypatch.setattr(module, "load", lambda run: (model, BYTES))
    made = module.harness("any")
    assert isinstance(made, LM)
    assert made.rank == 0
    (answer,) = made.loglikelihood([Instance(("a", "b"))])
    assert answer[0] < 0


def test_a_model_that_continues_nothing_is_refused():
    with pytest.raises(RunError, match="continue a text"):
        Responder(SimpleNamespace(tasks=frozenset({"encode"})), BYTES)


def local(folder, name, **own):
    """A task of the harness over records in a file here."""
    files = {"validation": str(folder / "sums.jsonl")}
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "validation_split": "validation",
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
        **own,
    }


def test_the_harness_itself_runs_its_three_kinds_of_task(tmp_path, answers, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    rows = [{"question": f"{i} and {i}:", "said": [f" {2 * i}", f" {i}"]} for i in range(1, 9)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(module, "load", lambda run: (answers.model, BYTES))
    kinds = {
        "multiple_choice": {"doc_to_choice": "{{said}}", "doc_to_target": 0},
        "loglikelihood_rolling": {"doc_to_target": "{{question}}"},
        "generate_until": {"doc_to_target": "{{said[0]}}"},
    }
    kinds["generate_until"]["generation_kwargs"] = {"until": ["\n"], "max_gen_toks": 4}
    metrics = {"acc": "multiple_choice", "bits_per_byte": "loglikelihood_rolling"}
    metrics["exact_match"] = "generate_until"
    tasks = [
        local(tmp_path, kind, output_type=kind, metric_list=[{"metric": name}], **kinds[kind])
        for name, kind in metrics.items()
    ]
    found = lm_eval.simple_evaluate(model=module.harness(), tasks=tasks)["results"]
    right = [
        plain(answers, row["question"].encode(), row["said"][0].encode())[0]
        > plain(answers, row["question"].encode(), row["said"][1].encode())[0]
        for row in rows
    ]
    assert found["multiple_choice"]["acc,none"] == pytest.approx(np.mean(right))
    texts = [row["question"].encode() for row in rows]
    nats = sum(plain(answers, [END], text)[0] for text in texts)
    bits = -nats / np.log(2) / sum(map(len, texts))
    assert found["loglikelihood_rolling"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-4)
    assert 0.0 <= found["generate_until"]["exact_match,none"] <= 1.0


class FakeManager:
    """Knows one task, and one for each YAML file of its folders."""

    def __init__(self, include_path=None):
        files = [file for folder in include_path or [] for file in Path(folder).glob("*.yaml")]
        self.all_tasks = ["piqa", *(file.stem for file in files)]


@pytest.fixture
def asked(monkeypatch):
    """What the harness is asked by the verb, in place of running it."""
    seen = {}

    def simple_evaluate(**options):
        seen.update(options)
        values = {"alias": "piqa", "acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 3}
        return {"results": dict.fromkeys(options["tasks"], values)}

    fake = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.tasks")}
    fake["lm_eval"].simple_evaluate = simple_evaluate
    fake["lm_eval.tasks"].TaskManager = FakeManager
    for name, each in fake.items():
        monkeypatch.setitem(sys.modules, name, each)
    monkeypatch.setattr(module, "harness", lambda run: f"model of {run}")
    return seen


def test_the_verb_runs_tasks_of_the_harness_and_of_a_folder(asked, tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mine")
    app = typer.Typer()
    app.command()(verb)
    words = ["r", "--tasks", "piqa, mine", "--shots", "2", "--limit", "5"]
    words += ["--task-folder", str(tmp_path)]
    shown = CliRunner().invoke(app, words)
    assert shown.output.split("\n")[1].split() == ["piqa", "acc", "none", "0.5000", "0.1000"]
    told = {name: asked[name] for name in ("model", "tasks", "num_fewshot", "limit")}
    expected = {"model": "model of r", "tasks": ["piqa", "mine"], "num_fewshot": 2, "limit": 5}
    assert told == expected
    as_json = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(as_json.output)["mine"]["acc,none"] == 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "piqqa"], "Did you mean 'piqa'"),
        (["--tasks", "piqa,"], "commas between"),
        (["--tasks", "piqa", "--task-folder", "nowhere"], "no such folder"),
        (["--tasks", "piqa", "--task", "masked"], "--task doesn't go with --tasks"),
        (["--shots", "3"], "--shots is for --questions or --tasks"),
    ],
)
def test_what_the_harness_cannot_do_is_refused(asked, words, said):
    app = typer.Typer()
    app.command()(verb)
    assert said in str(CliRunner().invoke(app, words).exception)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            AttributeError("no function 'score'"),
            r"run piqa \(AttributeError: no function 'score'\)",
        ),
        (ImportError("No module named 'sacrebleu'"), r"ImportError: .*have to be on this machine"),
        (RunError("A continuation is too long."), r"^A continuation is too long\.$"),
    ],
)
def test_a_task_that_fails_is_a_sentence(asked, monkeypatch, fault, said):
    def fail(**options):
        raise fault

    monkeypatch.setattr(sys.modules["lm_eval"], "simple_evaluate", fail)
    with pytest.raises(RunError, match=said):
        module.evaluate_tasks("r", ["piqa"])
