"""No kind without a row, and no field of a config without an effect."""

import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_transformers.core.context import Context
from mlx_transformers.data.config import Data
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.layers.adapters.switch import adapter_dropout
from mlx_transformers.objectives.objective import PICTURES
from mlx_transformers.optim.periodic import refresh, refresh_every, update_hessian
from mlx_transformers.recipe.slot import KINDS, kind_of

from . import (
    adapters,
    batches,
    fakes,
    objectives,
    rewards,
    signals,
    sources,
    tokenizers,
)
from .models import LLAMA
from .rows import FILES
from .suite import SUBJECTS, Change, Row, parse, randomize

Facts = dict[str, np.ndarray]


def kinds_with_rows(slot: str) -> set[str]:
    return {row.kind for row in FILES[slot].ROWS} if slot in FILES else set()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that tokenizers read."""
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizers.write_files(folder)
    batches.write_files(folder)
    return folder


@pytest.mark.parametrize("slot", sorted(KINDS))
def test_every_kind_of_the_registry_has_a_row(slot: str) -> None:
    missing = set(KINDS[slot]) - kinds_with_rows(slot)
    assert not missing, f"no row in tests/contract for {sorted(missing)} of slot '{slot}'"


def facts_of_module(row: Row, **changes: Any) -> Facts:
    """Initial weights, output without and with dropout, auxiliary losses."""
    subject = row.bare(**changes)
    facts = named(subject.parameters(), "initial")
    randomize(subject, 0)
    for name, key in (("evaluation", None), ("training", mx.random.key(0))):
        ctx = Context(key=key, scalars={"progress": mx.array(0.3)})
        facts |= named({"output": subject(subject.inputs(), ctx), **ctx.collected.aux}, name)
    return facts


def facts_of_init(row: Row, **changes: Any) -> Facts:
    """The weights of a small model."""
    model = parse("model", LLAMA | {"init": {**row.config, **changes}})
    mx.random.seed(0)
    return named(model.build(13).parameters(), "initial")


def facts_of_objective(row: Row, **changes: Any) -> Facts:
    """The loss of a small model, and its parts."""
    mx.random.seed(0)
    model = parse("model", LLAMA | objectives.PARTS.get(row.kind, {})).build(13)
    model = randomize(model, 0)
    batch: dict[str, mx.array] = {"tokens": mx.random.randint(0, 13, (2, 10))}
    if row.kind == "prefix_lm":
        batch = {name: mx.array(array) for name, array in objectives.PREFIX.items()}
    if row.kind == "kto":
        batch = {name: mx.array(array) for name, array in objectives.UNPAIRED.items()}
    if row.kind in ("ppo", "grpo", "rloo", "reinforce"):
        batch = {name: mx.array(array) for name, array in objectives.POLICY.items()}
    if row.kind in ("dpo", "orpo", "reward"):
        batch = {name: mx.array(array) for name, array in objectives.PAIRS.items()}
    if row.kind == "regression":
        batch = {name: mx.array(array) for name, array in objectives.VECTORS.items()}
    if row.kind in objectives.BATCHES:
        model = fakes.model_of(row.kind, 13)
        batch = {name: mx.array(array) for name, array in objectives.BATCHES[row.kind].items()}
    objective = row.parse(**changes)
    frozen = objective.frozen()
    models = {"model": model} | {
        role: fakes.Coded(zlib.crc32(run.encode()))
        if role == PICTURES
        else randomize(parse("model", LLAMA).build(13), zlib.crc32(run.encode()))
        for role, run in frozen.items()
    }
    loss = objective.build()(models, batch, Context())
    return named({"total": loss.total, "weight": loss.weight, **loss.parts}, "loss")


def facts_of_optim(row: Row, **changes: Any) -> Facts:
    """The weights of a small model after three updates."""
    model = randomize(parse("model", LLAMA).build(13), 0)
    config = row.parse(**changes)
    optimizer = config.build(model, total_steps=5)
    every = refresh_every(optimizer)
    for step in range(3):
        mx.random.seed(step)
        drawn = tree_map(lambda w: mx.random.normal(w.shape), model.parameters())
        if config.curvature is not None and step % config.curvature.every == 0:
            update_hessian(optimizer, tree_map(mx.abs, drawn))
        optimizer.update(model, drawn)
        if every is not None and step % every == 0:
            refresh(optimizer)
    return named(model.parameters(), "trained")


def facts_of_clip(row: Row, **changes: Any) -> Facts:
    """Gradients after clipping, of weights at 0 and away from it, and the norm before."""
    weights = {"a": mx.array([[0.0, 0.0], [3.0, 4.0]]), "b": mx.array([1.0, -1.0])}
    gradients, norm = row.parse(**changes).build()(tree_map(lambda w: w + 1, weights), weights)
    return named({"gradients": gradients, "norm": norm}, "clipped")


def facts_of_schedule(row: Row, **changes: Any) -> Facts:
    """The rates of a run."""
    rate = row.parse(**changes).build(1.0, 20)
    return {"rates": np.array([float(rate(mx.array(step))) for step in range(22)])}


def facts_of_batch(row: Row, **changes: Any) -> Facts:
    """Batches of training and of evaluation, as bytes."""
    batch = row.parse(**changes)
    path = "records.jsonl" if batch.reads_records else "text.txt"
    table = {"path": path, "batch": batch, "tokenizer": kind_of("tokenizer", "byte")()}
    prepared = prepare(Data.model_validate(table | {"valid_fraction": 0.3}))
    setting = BatchSetting(batches.SEQ_LEN, seed=1)
    train = batch.train(prepared, setting).batch(np.arange(8))
    valid = batch.held_out(prepared, "valid", setting).batch(np.arange(2))
    assert set(train) <= set(batch.gives) <= set(train) | {"segments"}
    assert set(valid) <= {*batch.gives, "weights"}
    facts = {"vocab_size": np.array(prepared.tokenizer.vocab_size)}
    for name, arrays in (("train", train), ("valid", valid)):
        facts |= {f"{name}.{key}": array for key, array in arrays.items()}
    return facts


def facts_of_tokenizer(row: Row, **changes: Any) -> Facts:
    """The vocabulary, the control tokens, and the tokens of a text."""
    tokenizer = row.parse(**changes).build([tokenizers.TEXT])
    ends = [tokenizer.vocab_size, tokenizer.bos_id or -1, tokenizer.eos_id or -1]
    text = tokenizers.NUMBERS if row.config["kind"] == "numbers" else tokenizers.TEXT[:500]
    facts = {"ends": np.array(ends), "text": np.array(tokenizer.encode(text))}
    return facts | {"size": np.array(len(tokenizer.serialize()))}


def facts_of_adapt(row: Row, **changes: Any) -> Facts:
    """What is trained, the logits, and the logits of a training pass."""
    model = adapters.adapted(row.parse(**changes))
    facts = named(model.trainable_parameters(), "trained")
    facts["logits"] = np.array(model(adapters.TOKENS))
    ctx = Context(key=mx.random.key(0))
    with adapter_dropout(model, ctx):
        return facts | {"training": np.array(model(adapters.TOKENS, ctx))}


def facts_of_reward(row: Row, **changes: Any) -> Facts:
    """The rewards of a few completions."""
    return {"rewards": np.array(rewards.rewards_of(row.parse(**changes)))}


def facts_of_signal(row: Row, **changes: Any) -> Facts:
    """The arrays of a few completions."""
    signal = row.parse(**changes)
    found = signal.arrays(signals.SCORED)
    assert set(found) - {"reference_logps"} == set(signal.gives) - {"row_tokens"}
    return found | {f"valid.{name}": v for name, v in signal.held_out(signals.SCORED).items()}


def facts_of_source(row: Row, **changes: Any) -> Facts:
    """A few batches of a small model."""
    return sources.batches_of(row.parse(**changes), Path())


FACTS: dict[str, Callable[..., Facts]] = {
    **dict.fromkeys(SUBJECTS, facts_of_module),
    "adapt": facts_of_adapt,
    "init": facts_of_init,
    "objective": facts_of_objective,
    "optim": facts_of_optim,
    "clip": facts_of_clip,
    "schedule": facts_of_schedule,
    "batch": facts_of_batch,
    "tokenizer": facts_of_tokenizer,
    "reward": facts_of_reward,
    "signal": facts_of_signal,
    "source": facts_of_source,
}
"""All that a field can have an effect on."""


@functools.cache
def unchanged(slot: str, name: str) -> Facts:
    """The facts of a row as it is, made twice since they have to be reproducible."""
    row = next(row for row in FILES[slot].ROWS if row.name == name)
    facts = FACTS[slot](row)
    assert same(facts, FACTS[slot](row)), "the test itself isn't reproducible"
    return facts


def named(tree: Any, prefix: str) -> Facts:
    return {f"{prefix}.{name}": np.asarray(value) for name, value in tree_flatten(tree)}


def same(a: Facts, b: Facts, tolerance: float = 0.0) -> bool:
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and np.allclose(a[name], b[name], tolerance, tolerance)
        for name in a
    )


def every_field() -> list[Any]:
    cases = []
    for slot, file in FILES.items():
        for kind in sorted(kinds_with_rows(slot)):
            row = next(row for row in file.ROWS if row.kind == kind)
            names = [name for name in type(row.parse()).model_fields if name != "kind"]
            cases += [pytest.param(slot, kind, n, id=f"{slot}-{kind}-{n}") for n in names]
    return cases


@pytest.mark.parametrize(("slot", "kind", "field"), every_field())
def test_every_field_has_an_effect(
    slot: str, kind: str, field: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setenv("MLXT_CACHE", str(files / "cache"))
    changes = FILES[slot].CHANGES[kind]
    assert field in changes, (
        f"no other value for '{field}' in the CHANGES of {FILES[slot].__name__}"
    )
    change = changes[field] if isinstance(changes[field], Change) else Change(changes[field])
    rows = [row for row in FILES[slot].ROWS if row.kind == kind]
    row = next(row for row in rows if change.row in (None, row.name))
    assert row.config.get(field) != change.value
    before, after = unchanged(slot, row.name), FACTS[slot](row, **{field: change.value})
    if change.result:
        assert not same(before, after)
    else:
        assert same(before, after, tolerance=1e-5)


@pytest.mark.parametrize("slot", FILES)
def test_the_table_of_changes_names_only_fields_that_exist(slot: str) -> None:
    for kind, changes in FILES[slot].CHANGES.items():
        row = next(row for row in FILES[slot].ROWS if row.kind == kind)
        assert set(changes) <= set(type(row.parse()).model_fields)
