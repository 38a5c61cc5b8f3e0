"""The cure that an error names is one that works: each is followed as it is written."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from convert.published import write

from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.verbs.import_run import import_run

from .conftest import Mlxt


def imported(home: Path, name: str, dtype: str = "float32", **changes: object) -> None:
    import_run(write(home / "model", name, dtype, **changes), "m", home / "runs", say=str)
    # llama.cpp has a form of this tokenizer
    tokenizer = home / "runs" / "m" / "tokenizer"
    for path in tokenizer.iterdir():
        path.unlink()
    ByteTokenizer().save(tokenizer)


def windowed(home: Path) -> None:
    imported(home, "mistral", sliding_window=8)


def windowed_experts(home: Path) -> None:
    imported(home, "mixtral", sliding_window=8)


def halves(home: Path) -> None:
    imported(home, "llama", "bfloat16")


def large(home: Path) -> None:
    source = write(home / "model", "llama")
    path = str(source / "model.safetensors")
    tensors = dict(mx.load(path))
    mx.eval(tensors)
    mx.save_safetensors(path, tensors | {"model.norm.weight": mx.full((32,), 7e4)})
    import_run(source, "m", home / "runs", say=str)


def there_already(home: Path) -> None:
    imported(home, "llama")
    (home / "out").mkdir()


EXPORTS: list[tuple[Callable[[Path], None], str]] = [
    (windowed, "--to gguf --out x.gguf"),
    (windowed_experts, "--to gguf --out x.gguf"),
    (windowed, "--to mlx-lm --out out"),
    (halves, "--to gguf --out x.gguf"),
    (large, "--to hf --dtype float16 --out out"),
    (there_already, "--to hf --out out"),
]


@pytest.mark.parametrize(("make", "options"), EXPORTS, ids=lambda x: getattr(x, "__name__", x))
def test_a_refused_export_succeeds_with_the_cure_that_it_names(
    make: Callable[[Path], None], options: str, mlxt: Mlxt, home: Path
) -> None:
    make(home)
    verb = ["export", "m", *shlex.split(options)]
    refusal = mlxt(*verb)
    assert refusal.code == 1
    cure = re.search(r"(--(?:context|dtype|to|out)) ?(\w*)", refusal.err)
    assert cure is not None, refusal.err
    option, value = cure[1], cure[2] if cure[1] != "--out" else "elsewhere"
    if option in verb:
        verb[verb.index(option) + 1] = value
    else:
        verb += [option, value]
    outcome = mlxt(*verb)
    assert outcome.code == 0, outcome.err
    assert (home / verb[verb.index("--out") + 1]).exists()


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        (["--data", "txt.txt"], ["--data", "text.txt"]),
        (["--set", "data.path=txt.txt"], ["--set", "data.path=text.txt"]),
    ],
)
def test_a_missing_text_is_named_again_by_the_option_that_named_it(
    mlxt: Mlxt, home: Path, given: list[str], cure: list[str]
) -> None:
    refusal = mlxt("train", "tiny", *given)
    assert refusal.code == 1
    assert f"Name another with {' '.join(cure).replace('text.txt', 'FILE')}; paths" in refusal.err
    outcome = mlxt("train", "tiny", *cure)
    assert outcome.code == 0, outcome.err


def test_a_run_without_adapters_is_exported_as_the_error_says(mlxt: Mlxt, home: Path) -> None:
    imported(home, "llama")
    refused = mlxt("export", "m", "--to", "peft", "--out", "x")
    assert "has no adapters" in refused.err
    assert "--to hf" in refused.err
    assert mlxt("export", "m", "--to", "hf", "--out", "x").code == 0
