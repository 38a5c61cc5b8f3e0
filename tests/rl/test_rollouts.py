"""Runs on rollouts: they learn, resume inside a rollout to the bit, and refuse what can't work."""

import json
import sys

import numpy as np
import pytest
from train import tiny

from mlx_transformers.core.errors import MlxtError
from mlx_transformers.rl.reference import _read
from mlx_transformers.rl.scoring import Scorer

TABLES = """
[source]
kind = "rollouts"
prompts = 4
group = 4
rows = 6
max_tokens = 3
epochs = 2

[source.rewards.mine]
kind = "function"
function = "rewarding:plain"

[source.signal]
kind = "group"
"""
RECIPE = (
    tiny.RECIPE.replace('kind = "clm"', 'kind = "grpo"')
    .replace('path = "text.txt"', 'corpus = "arithmetic"\nsettings = { n_examples = 60 }')
    .replace('kind = "char" }', 'kind = "byte" }\nbatch = { kind = "prompts" }')
    .replace("dropout = 0.1", "dropout = 0.0")
    .replace("batch_size = 4\nseq_len = 16", "batch_size = 8\nseq_len = 12")
    .replace("every = 1000", "every = 1000\nbatches = 1", 1)
    .replace('kind = "cosine"\nwarmup = 2', 'kind = "constant"')
)
FUNCTIONS = """
def plain(prompts, completions, records):
    return [sum(ord(letter) < 128 for letter in c) / 3 for c in completions]

def constant(prompts, completions, records):
    return [1.0 for _ in prompts]

def broken(prompts, completions, records):
    raise OSError("the grader is gone")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, tmp_path_factory, monkeypatch):
    """The recipe and the functions of its rewards, in the working folder."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rewarding.py").write_text(FUNCTIONS)
    (tmp_path / "tiny.toml").write_text(RECIPE + TABLES)
    yield tmp_path
    sys.modules.pop("rewarding", None)


def records(result):
    return [json.loads(line) for line in result.folder.log.read_text().splitlines()]


def weights(result):
    return (result.folder.newest() / "model.safetensors").read_bytes()


def test_a_policy_learns_from_its_rollouts_and_says_how(folder):
    sets = ("train.batch_size=16", "train.steps=24", "optim.learning_rate=3e-2")
    result = tiny.run(folder, *sets, "eval.every=12", name="a")
    rewards = [value for _, value in tiny.records(result, "reward")]
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8]) + 0.1
    row = next(row for row in records(result) if "rollout_share" in row)
    measured = {"entropy", "completion_length", "sampler_gap", "flat_groups", "reward_mine"}
    assert measured | {"clip_fraction", "moved", "rollout_tokens_per_s"} <= row.keys()
    assert row["sampler_gap"] < 1e-4
    assert 0 < row["rollout_share"] <= 1
    assert result.progress.best_loss == max(dict(tiny.records(result, "val_reward")).values())


def test_a_run_goes_on_to_the_bit_inside_a_rollout(folder):
    whole = tiny.run(folder, "train.steps=7", name="whole")
    before = weights(tiny.run(folder, "train.steps=6", name="a"))  # a rollout is 4 steps
    ended = tiny.run(folder, "train.steps=7", name="a", resume="auto")
    assert before != weights(whole) == weights(ended)


def test_a_run_killed_while_it_samples_goes_on_to_the_bit(folder):
    sets = ("train.steps=5", "checkpoint.every=2")
    whole = tiny.run(folder, *sets, name="whole")
    words = ["train", "tiny.toml", "--name", "a", "--resume", "auto"]
    words += [word for each in sets for word in ("--set", each)]
    at = "mlx_transformers.decode.continuous/ContinuousEngine._advance"
    killed = tiny.mlxt(folder, *words, at=at, call=14)
    assert killed.returncode == -9, killed.stderr
    ended = tiny.mlxt(folder, *words)
    assert ended.returncode == 0, ended.stderr
    saved = folder / "runs" / "a" / "checkpoints" / "step-000005" / "model.safetensors"
    assert saved.read_bytes() == weights(whole)


@pytest.mark.parametrize(
    ("objective", "signal"),
    [
        ("ppo", "gae"),
        ("rloo", "leave_one_out"),
        ("reinforce", "returns"),
        ("dpo", "pairs"),
        ("clm", "best"),
    ],
)
def test_every_signal_trains_its_objective(folder, objective, signal):
    sets = [f"objective={{kind='{objective}'}}", f"source.signal={{kind='{signal}'}}"]
    sets += ["model.pool={kind='scalar'}"] if objective == "ppo" else []
    sets += ["train.batch_size=4"] if signal in ("pairs", "best") else []
    result = tiny.run(folder, *sets, "train.steps=2", name="a")
    losses = [row["train_loss"] for row in records(result) if "train_loss" in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_a_reference_bounds_the_reward_by_its_kl_and_a_run_resumes_with_its_weight(folder):
    tiny.run(folder, "train.steps=1", name="before")
    source = ("source.reference='before'", "source.kl=0.5", "source.kl_target=0.01")
    source = (*source, "source.kl_horizon=20", "objective={kind='grpo', beta=0.1}")
    whole = tiny.run(folder, *source, "train.steps=9", name="whole")
    weight = [row["kl_weight"] for row in records(whole) if "kl_weight" in row]
    assert weight[0] == 0.5
    assert weight[-1] != 0.5
    tiny.run(folder, *source, "train.steps=5", name="a")
    ended = tiny.run(folder, *source, "train.steps=9", name="a", resume="auto")
    assert weights(ended) == weights(whole)


LORA = "adapt={kind='lora', rank=2, targets=['mixer']}"


def test_the_policy_without_its_adapters_is_the_reference(folder):
    sets = (LORA, "source.reference='adapter_off'", "objective={kind='grpo', beta=0.1}")
    result = tiny.run(folder, *sets, "train.steps=5", name="a")
    apart = [row["reference_kl"] for row in records(result) if "reference_kl" in row]
    assert apart[0] == pytest.approx(0, abs=1e-6)
    assert abs(apart[-1]) > 1e-5
    sets = (LORA, "objective={kind='dpo', reference='adapter_off'}", "source={kind='stream'}")
    result = tiny.run(folder, *sets, "data.batch={kind='preferences'}", "train.steps=3", name="b")
    losses = [row["train_loss"] for row in records(result) if "train_loss" in row]
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert losses[-1] != pytest.approx(np.log(2), rel=1e-5)


def test_the_reference_is_computed_once_and_read_from_the_cache_afterwards(folder, monkeypatch):
    sets = ("data.batch={kind='preferences'}", "train.steps=2")
    dpo = "objective={kind='dpo', reference='runs/before/checkpoints/last'}"
    tiny.run(folder, "objective={kind='clm'}", "source={kind='stream'}", "train.steps=1",
             "data.batch={kind='completions'}", name="before")  # fmt: skip
    whole = tiny.run(folder, *sets, dpo, "source={kind='stream'}", name="whole")
    cached = ("objective={kind='dpo'}", "source={kind='referenced', reference='before'}")
    first = tiny.run(folder, *sets, *cached, name="a")

    def refuse(*args):
        raise AssertionError("the reference was computed again")

    monkeypatch.setattr(Scorer, "__call__", refuse)
    second = tiny.run(folder, *sets, *cached, name="b")
    assert weights(first) == weights(second)
    losses = [dict(tiny.records(run, "train_loss"))[2] for run in (whole, first)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_damaged_lines_of_cached_log_probabilities_are_computed_again(tmp_path):
    file = tmp_path / "cache.jsonl"
    bad = ("5", "[1]", '["a", null]', '["a", [1]]', "[" * 100_000, "\xff", '["b", -1')
    file.write_bytes("\n".join(('["key", -2.5]', *bad)).encode("latin-1"))
    assert _read(file) == {"key": -2.5}


def test_a_policy_learns_from_its_own_revisions(folder):
    constitution = (
        "{principles=['be brief'], critique='{completion}?', "
        "revision='{completion}{critique}{principle}!'}"
    )
    sets = (f"source.revise={constitution}", "source.signal={kind='best'}", "source.group=1")
    sets = (*sets, "objective={kind='clm'}", "source.prompts=8")
    result = tiny.run(folder, *sets, "train.steps=1", name="a")
    assert np.isfinite(next(row["train_loss"] for row in records(result) if "train_loss" in row))


IMITATION = ("source.signal={kind='completions'}", "objective={kind='clm'}")


def test_completions_are_learned_without_log_probabilities_of_the_policy(folder, monkeypatch):
    def refuse(*args):
        raise AssertionError("nothing reads these log-probabilities")

    monkeypatch.setattr(Scorer, "__call__", refuse)
    flat = ("source.rewards.mine.function='rewarding:constant'", "source.on_flat='stop'")
    result = tiny.run(folder, *IMITATION, *flat, "train.steps=2", name="a")
    row = next(row for row in records(result) if "rollout_reward" in row)
    assert row["rollout_reward"] == 1
    assert not {"entropy", "sampler_gap"} & row.keys()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([*IMITATION, "source.score_clip=1.0"], r"score_clip changes the rewards, which signal"),
        ([*IMITATION, "source.reference='before'"], r"reference changes the rewards"),
        (["train.batch_size=5"], r"gives 16 rows, which train\.batch_size = 5 doesn't divide"),
        (["data.batch={kind='completions'}"], r"set data\.batch\.kind = 'prompts'"),
        (["source.group=1"], r"compares completions of one prompt: set group"),
        (["source.reference='adapter_off'"], r"has no \[adapt\]: name the run"),
        (
            ["adapt={kind='lora', train=['norm']}", "source.reference='adapter_off'"],
            r"trains weights of the base too",
        ),
        (
            ["source.revise={principles=['a'], critique='{completion}', revision='{complete}'}"],
            r"has the field \{complete\}; it may have \{prompt\}",
        ),
        (["source.kl=0.1"], r"set reference to its run"),
        (["source.max_tokens=12"], r"more than train\.seq_len \+ 1 = 13"),
        (["source.reference='nowhere'"], r"source\.reference = 'nowhere'"),
        (["objective={kind='ppo'}"], r"reads the array"),
        (["objective.temperature=0.5"], r"objective\.temperature = 0\.5.*source\.temperature = 1"),
        (
            ["source.rewards.mine.function='rewarding:broken'"],
            r"'mine' failed: OSError: the grader is gone",
        ),
        (
            ["source.rewards.mine.function='rewarding:constant'", "source.on_flat='stop'"],
            r"same reward \(1 for the first\)",
        ),
    ],
)
def test_what_can_not_work_is_refused(folder, sets, message):
    with pytest.raises(MlxtError, match=message):
        tiny.run(folder, *sets, name="a")
    assert not (folder / "runs" / "a").exists()


def test_constant_and_failing_rewards_train_on_where_the_recipe_says_so(folder):
    for function in ("constant", "broken"):
        sets = (f"source.rewards.mine.function='rewarding:{function}'", "source.on_error='zero'")
        result = tiny.run(folder, *sets, "train.steps=1", name=function)
        row = next(row for row in records(result) if "flat_groups" in row)
        assert row["flat_groups"] == 1
        assert row["failed_rewards"] == (16 if function == "broken" else 0)
