"""Every objective, with the batches that it reads, goes through the one trainer and learns."""

import json
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.verbs.train import Result, train

from . import batches

STACK = """
n_layers = 1
embed = {{ kind = "token"{types} }}
position = {{ kind = "learned" }}
norm = {{ kind = "layer_norm" }}
[{at}.block]
placement = "pre"
norm = {{ kind = "layer_norm" }}
mixer = {{ kind = "attention", n_heads = 2 }}
ffn = {{ kind = "mlp", hidden_dim = 32, activation = "gelu", bias = true }}
"""
SIZES = "dim = 24\nmax_seq_len = 32\ninit = { kind = 'normal', std = 0.05 }\n"
REST = """
[objective]
{objective}
[data]
path = "{path}"
tokenizer = {{ kind = "byte" }}
valid_fraction = 0.2
[data.batch]
{batch}
[optim]
kind = "adamw"
learning_rate = 1e-2
schedule = {{ kind = "constant" }}
[train]
steps = 20
batch_size = 8
seq_len = 32
seed = 1
clip = {{ kind = "norm", max_norm = 1.0 }}
[eval]
every = 10
batches = 1
[checkpoint]
every = 10
[log]
every = 1
"""
MLM = """head.kind = "mlm"
head.tied = true
head.activation = "gelu"
head.norm.kind = "layer_norm"
"""
CROSS = 'cross = { kind = "cross_attention", n_heads = 2 }\n'


def encoder(answers: str) -> str:
    stack = STACK.format(at="model", types=", n_types = 2")
    return f'[model]\nkind = "encoder"\n{SIZES}{answers}{stack}'


DECODER = (
    f"[model]\nkind = 'decoder'\n{SIZES}head = {{ kind = 'lm', tied = true }}\n"
    + STACK.format(at="model", types="")
)
BOTH = (
    f"[model]\nkind = 'encoder_decoder'\n{SIZES}head = {{ kind = 'lm', tied = true }}\n"
    f"[model.encoder]{STACK.format(at='model.encoder', types='')}"
    f"[model.decoder]{STACK.format(at='model.decoder', types='')}{CROSS}"
)

PAIR = (
    f"[model]\nkind = 'pair'\n[model.generator]\nkind = 'encoder'\n{SIZES}"
    f"{MLM}{STACK.format(at='model.generator', types='')}"
    f"[model.discriminator]\nkind = 'encoder'\n{SIZES}head = {{ kind = 'tags', n_classes = 1 }}\n"
    f"{STACK.format(at='model.discriminator', types='')}"
)

CASES = {
    "prefix": (DECODER, 'kind = "prefix_lm"', 'kind = "prefix"'),
    "mlm": (encoder(MLM), 'kind = "mlm"', 'kind = "mlm"\nmasking.unit = "span"'),
    "next sentence": (
        encoder(MLM + 'pool = { kind = "classifier", n_classes = 2 }\n'),
        'kind = "sentence_order"',
        'kind = "sentence_pairs"',
    ),
    "electra": (PAIR, 'kind = "rtd"\ndiscriminator_weight = 5.0', 'kind = "mlm"'),
    "t5": (BOTH, 'kind = "seq2seq"', 'kind = "span_corruption"'),
    "bart": (BOTH, 'kind = "seq2seq"', 'kind = "denoise"\ninfill = 0.3\npermute = true'),
    "pairs": (BOTH, 'kind = "seq2seq"', 'kind = "pairs"\nlengths = [20, 32]'),
    "classify": (
        encoder('pool = { kind = "classifier", n_classes = 2 }\n'),
        'kind = "classify"',
        'kind = "labeled"',
    ),
    "tag": (
        encoder('head = { kind = "tags", n_classes = 3 }\n'),
        'kind = "tag"',
        'kind = "tagged"',
    ),
    "answer": (
        encoder('head = { kind = "tags", n_classes = 2 }\n'),
        'kind = "answer"',
        'kind = "answers"',
    ),
    "contrastive": (
        encoder('pool = { kind = "sentence" }\n'),
        'kind = "contrastive"',
        'kind = "contrastive"',
    ),
}
CASES |= {
    name: (
        "[model]\nkind = 'word_vectors'\ndim = 64\n",
        'kind = "negative_sampling"',
        f'kind = "{name}"\nsubsample = 0.02',
    )
    for name in ("skip_gram", "cbow")
}
TEXTS = {"skip_gram", "cbow", "electra", "prefix", "mlm", "next sentence", "t5", "bart"}


@pytest.fixture(autouse=True)
def _eagerly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small steps are not worth compiling; that they can be is tested elsewhere."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    batches.write_files(tmp_path)
    mx.disable_compile()
    yield
    mx.enable_compile()


def run(folder: Path, case: str, name: str, *sets: str, resume: str | None = None) -> Result:
    model, objective, batch = CASES[case]
    path = folder / ("text.txt" if case in TEXTS else "records.jsonl")
    recipe = folder / "recipe.toml"
    recipe.write_text(model + REST.format(objective=objective, batch=batch, path=path))
    loaded = load_recipe(recipe, sets)
    return train(loaded, name=name, root=folder / "runs", say=lambda text: None, resume=resume)


def records(result: Result) -> list[dict[str, float]]:
    return [json.loads(line) for line in result.folder.log.read_text().splitlines()]


@pytest.mark.parametrize("case", CASES)
def test_an_objective_learns(case: str, tmp_path: Path) -> None:
    result = run(tmp_path, case, "whole")
    losses = [row["train_loss"] for row in records(result) if "train_loss" in row]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert [row["step"] for row in records(result) if "val_loss" in row] == [10, 20]


@pytest.mark.parametrize("case", ["next sentence", "pairs"])
def test_a_resumed_run_is_the_same(case: str, tmp_path: Path) -> None:
    whole = run(tmp_path, case, "whole", "train.steps=6")
    run(tmp_path, case, "parts", "train.steps=3")
    again = run(tmp_path, case, "parts", "train.steps=6", resume="auto")
    paths = [r.folder.newest() for r in (whole, again)]
    files = [(path / "model.safetensors").read_bytes() for path in paths if path]
    assert files[0] == files[1]


def test_a_student_is_taught_by_a_run(tmp_path: Path) -> None:
    teacher = run(tmp_path, "mlm", "teacher").folder.path
    sets = [
        "objective.kind='distill'",
        f"objective.teacher='{teacher}'",
        "objective.cosine=1.0",
        "model.block.ffn.hidden_dim=16",
    ]
    student = run(tmp_path, "mlm", "student", *sets)
    soft = [row["soft"] for row in records(student) if "soft" in row]
    assert sum(soft[-4:]) < 0.9 * sum(soft[:4])
    names = {name for row in records(student) for name in row}
    assert {"val_soft", "val_cosine", "val_loss"} <= names
    with pytest.raises(RecipeError, match="trained with another tokenizer"):
        run(tmp_path, "mlm", "other", *sets, "data.tokenizer.kind='char'")


@pytest.mark.parametrize(
    ("case", "key", "message"),
    [
        ("classify", "pool.n_classes=1", "pool.n_classes = 1.*2 classes: even, odd"),
        ("tag", "head.n_classes=2", "head.n_classes = 2.*3 classes: noun, number, verb"),
        ("answer", "head.n_classes=3", "reads 2 classes of model.head: .*n_classes = 2, not 3"),
    ],
)
def test_classes_that_the_model_lacks_are_named(
    case: str, key: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(tmp_path, case, "x", f"model.{key}")


@pytest.mark.parametrize(
    ("case", "sets", "message"),
    [
        (
            "prefix",
            ["objective={kind='mlm'}", "data.batch={kind='mlm'}"],
            "'mlm' can't train a model of kind 'decoder'. Kinds that it trains: encoder",
        ),
        (
            "prefix",
            ["objective={kind='multi_token'}", "data.batch={kind='rows'}"],
            "model.ahead, which is absent: set model.ahead.kind = 'mtp'",
        ),
        (
            "classify",
            ["unset=['model.pool']"],
            "model.pool, which is absent: .*kind = 'classifier'",
        ),
        (
            "classify",
            ["model.pool.kind='sentence'"],
            "model.pool, which is of kind 'sentence': set",
        ),
        (
            "tag",
            ["model.head={ kind = 'lm', tied = true }"],
            "model.head, which is of kind 'lm': .*kind = 'tags'",
        ),
    ],
)
def test_a_model_that_an_objective_does_not_train_is_refused(
    case: str, sets: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(tmp_path, case, "x", *sets)


def test_an_objective_without_its_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"reads the array 'targets'.*mlm, sentence_pairs"):
        run(tmp_path, "mlm", "x", "data.batch.kind='rows'")
