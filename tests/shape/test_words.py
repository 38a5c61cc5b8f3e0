"""The project names no machine, and its docstrings begin with the thing or a verb."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("mlx_transformers", "recipes", "tests", "tools", "docs", ".ci", ".github")
TEXT = {".py", ".toml", ".md", ".yml", ".sh", ".txt", ".lock", ".json", ""}
FILES = sorted(
    path
    for place in (ROOT, *(ROOT / place for place in PLACES))
    for path in (place.iterdir() if place == ROOT else place.rglob("*"))
    if path.is_file() and path.suffix in TEXT and path.name not in {".git", ".gitignore"}
)

OF_A_MACHINE = re.compile(
    r"(?<![\w.~}\])*])/(?:home|Users|root|work|opt)/\w"
    r"|file:/{3}\w"
    r"|--?(?:extra-)?index[-_]url|find[-_]links|python[h]osted|npm[j]s\.org"
)

TERMS = {
    "attention sinks": "layers/mixers/attention.py",
    "beam search": "decode/beam.py",
    "callbacks": "trainer/callbacks.py",
    "collates": "data/kinds.py",
    "dataloader": "data/stream.py",
    "early stopping": "trainer/callbacks.py",
    "gradient accumulation": "trainer/step.py",
    "gradient checkpointing": "core/recompute.py",
    "gradient clipping": "optim/clip.py",
    "kv cache": "layers/mixers/kv_cache.py",
    "label smoothing": "ops/xent.py",
    "learning-rate finder": "verbs/sweep.py",
    "loss scaling": "optim/scaler.py",
    "mixed precision": "trainer/forward.py",
    "sequence packing": "data/batches/packed.py",
    "speculative decoding": "decode/speculative.py",
    "teacher forcing": "objectives/seq2seq.py",
    "tensor parallelism": "distributed/tensor_parallel.py",
    "tied embeddings": "layers/heads.py",
    "weight decay": "optim/optimizer.py",
}
"""Words that a reader of the field looks for, and the file whose docstrings have to have them."""


def test_no_file_names_a_machine_or_where_it_gets_its_packages() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]!r} belongs to one machine"
        for path in FILES
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := OF_A_MACHINE.search(line))
    ]
    assert not faults


def test_no_docstring_begins_with_a_question() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: begin with the thing by its name, or with a verb"
        for path in FILES
        if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r' *"""What\b', line)
    ]
    assert not faults


@pytest.mark.parametrize("term", TERMS)
def test_a_standard_idea_is_found_by_its_standard_name(term: str) -> None:
    tree = ast.parse((ROOT / "mlx_transformers" / TERMS[term]).read_text(encoding="utf-8"))
    docstrings = [
        " ".join(node.value.value.split())
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    assert any(term in text.lower() for text in docstrings)


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("see /home/ada/notes", True),
        ("pip --index-url x", True),
        ("runs/home/x", False),
        ("~/opt/x", False),
    ],
)
def test_what_is_looked_for_is_found(line: str, caught: bool) -> None:
    assert bool(OF_A_MACHINE.search(line)) is caught
