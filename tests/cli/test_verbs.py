"""What the verbs print: on a terminal, in a pipe, as JSON; and help that waits for nothing."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlx_transformers.cli import main as cli
from mlx_transformers.cli.preparing import Lines
from mlx_transformers.cli.terminal import GAP, aligned
from mlx_transformers.report import table
from mlx_transformers.report.table import Rung

from .conftest import Mlxt

VERBS = (
    "train",
    "generate",
    "eval",
    "show",
    "ladder",
    "sweep",
    "scale",
    "report",
    "profile",
    "doctor",
    "schema",
    "data",
)
ROOT = Path(cli.__file__).parents[2]


def shell(code: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )


def test_help_loads_neither_mlx_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from mlx_transformers.cli.main import main\n"
        "sys.argv = ['mlxt', *{arguments}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('mlx.core', 'numpy') if name in sys.modules])\n"
    )
    for arguments in (["--help"], ["train", "--help"], ["generate", "--help"], ["--version"]):
        done = shell(code.format(arguments=arguments))
        assert done.stdout.splitlines()[-1] == "[]", arguments


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(mlxt: Mlxt, verb: str) -> None:
    assert verb in mlxt("--help").out
    outcome = mlxt(verb, "--help")
    assert outcome.code == 0
    assert f"mlxt {verb}" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "Did you mean 'train'"),
        (["data", "lst"], "Did you mean 'list'?"),
        (["train", "tiny", "--stpes", "3"], "--steps"),
        (["train"], "Missing argument"),
        (["train", "tiny", "--steps", "many"], "for '--steps'"),
        (["show", "--modules", "tiny", "tiny"], "--modules shows one recipe"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_the_nearest_name(
    mlxt: Mlxt, arguments: list[str], named: str
) -> None:
    outcome = mlxt(*arguments)
    assert outcome.code == 2
    assert named in outcome.err
    assert outcome.err.count("\n") <= 8


def test_version_names_what_runs(mlxt: Mlxt) -> None:
    assert re.match(r"mlxt [\d.]+ \(mlx [\d.]+, Python 3\.\d+\.\d+, ", mlxt("--version").out)


def test_show_prints_every_key_on_a_line_of_its_own_in_a_pipe(mlxt: Mlxt, home: Path) -> None:
    long = "a prompt that no terminal could hold on one of its lines " * 4
    outcome = mlxt("show", "tiny", "--set", f"log.sample_prompt={long}")
    lines = outcome.out.splitlines()
    assert lines[0] == "tiny.toml \u2192 --set"
    (prompt,) = [line for line in lines if line.startswith("log.sample_prompt")]
    assert long.strip() in prompt
    assert prompt.endswith("--set")
    keys = [line.split()[0] for line in lines[3:] if line]
    rows = json.loads(mlxt("show", "tiny", "--json").out)
    assert keys == [row["key"] for row in rows]
    assert {row["set by"] for row in rows} == {"tiny.toml", "default"}


def test_show_of_two_recipes_prints_what_differs(mlxt: Mlxt, home: Path) -> None:
    (home / "wide.toml").write_text('extends = "tiny.toml"\nmodel.block.ffn.hidden_dim = 32\n')
    assert mlxt("show", "tiny", "wide").out.splitlines() == [
        "key                         tiny  wide",
        "model.block.ffn.hidden_dim  24    32",
    ]
    assert mlxt("show", "tiny", "tiny").out == "tiny and tiny have the same keys and values.\n"


def test_show_modules_prints_shapes_counts_and_sources(mlxt: Mlxt, home: Path) -> None:
    out = mlxt("show", "--modules", "tiny", "--set", "model.n_layers=3").out
    assert re.search(
        r"blocks\.0-2: BlockModule +3 × [\d,]+ +mlx_transformers/layers/block\.py", out
    )
    assert re.search(r"gate: Linear +24×16 +384 +mlx\.nn", out)
    assert "(n_heads 2, head_dim 8, n_kv_heads 2, scale 0.353553)" in out
    for path, line in re.findall(r"(mlx_transformers/\S+\.py):(\d+)", out):
        assert (ROOT / path).read_text().splitlines()[int(line) - 1].startswith("class "), path


def test_schema_accepts_the_recipes_own_keys(mlxt: Mlxt, home: Path) -> None:
    schema = json.loads(mlxt("schema").out)
    assert set(tomllib.loads((home / "tiny.toml").read_text())) <= set(schema["properties"])


def test_data_is_listed_prepared_and_inspected(mlxt: Mlxt, home: Path) -> None:
    listed = mlxt("data", "list").out
    assert "shakespeare" in listed
    corpora = json.loads(mlxt("data", "list", "--json").out)["corpora"]
    assert [c["name"] for c in corpora if not c["what"].endswith(".")] == []
    assert [c["name"] for c in corpora if c["what"].endswith("...")] == []
    assert "Nothing is prepared yet" in listed
    prepared = mlxt("data", "prepare", "tiny")
    assert prepared.out.startswith(f"Prepared {home / 'cache' / 'data' / 'text-'}")
    assert "Preparing the data: tokenizing" in prepared.err
    again = mlxt("data", "prepare", "tiny")
    assert again.out.startswith("Nothing to do")
    assert again.err == ""
    inspected = mlxt("data", "inspect", "tiny", "--rows", "2", "--length", "30")
    text = (home / "text.txt").read_text()
    assert text[:30] in inspected.out
    other = mlxt("data", "inspect", "tiny", "--set", "data.valid_fraction=0.5")
    assert "Preparing the data: tokenizing" in other.err  # what isn't prepared yet is
    assert "train" in other.out
    name = prepared.out.splitlines()[0].rsplit("/", 1)[1]
    found = json.loads(mlxt("data", "inspect", name, "--json").out)
    assert sum(split["bytes"] for split in found["splits"]) == len(text)
    for _ in range(2):  # a file that was begun is taken away, so the second try is like the first
        refused = mlxt("data", "rows", "tiny", "--to", "rows.jsonl")
        assert "running text, not records" in refused.err
    assert not (home / "rows.jsonl").exists()


def test_doctor_says_what_computes_and_what_is_in_force(mlxt: Mlxt) -> None:
    facts = json.loads(mlxt("doctor", "--json").out)
    out = mlxt("doctor").out
    assert re.search(rf"^device +{re.escape(facts['device'])}$", out, re.MULTILINE)
    assert re.search(rf"^memory +{facts['memory_gib']:,} GiB$", out, re.MULTILINE)
    for text in facts["warnings"] or ["No warnings."]:
        assert text in out


def test_a_warning_is_a_sentence() -> None:
    done = shell(
        "import sys, warnings\n"
        "from mlx_transformers.cli import doctor, main\n"
        "from mlx_transformers.core import device\n"
        "device.facts = lambda: warnings.warn('No g++. Install it.') or {}\n"
        "sys.argv = ['mlxt', 'doctor']\n"
        "main.main()\n"
    )
    assert "warning: No g++. Install it.\n" in done.stderr
    assert ".py" not in done.stderr


@pytest.mark.parametrize("verb", ["recipes", "data list"])
def test_a_reader_that_leaves_early_gets_no_traceback(home: Path, verb: str) -> None:
    command = (
        f"{sys.executable} -c 'from mlx_transformers.cli.main import main; main()' {verb} | true"
    )
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.stderr == ""


def test_columns_stand_under_each_other_and_cells_may_have_several_lines() -> None:
    rows = [("a", "b"), ("long", "1\n22")]
    assert aligned(rows, right=(1,)) == ["a      b", "long   1", "      22"]


def test_the_table_of_a_ladder_fits_100_columns() -> None:
    largest = Rung(
        recipe="mixtral_small",
        parameters=124_439_808,
        active_parameters=124_439_808,
        tokens=10**9,
        val_loss=1.0,
        val_bpb=1.0,
        delta_bpb=-0.123,
        tokens_per_s=123_456.0,
        peak_gib=123.4,
        decode_tokens_per_s=1_234.0,
        cache_bytes_per_token=123_456.0,
        seconds=1.0,
        value=1.0,
        delta=-0.123,
    )
    (cells,) = table.cells([largest])
    widths = [
        max(len(cell), *map(len, title.split("\n")))
        for cell, title in zip(cells, table.titles([largest]), strict=True)
    ]
    assert sum(widths) + GAP * (len(widths) - 1) <= 100


def test_progress_without_a_terminal_is_a_line_for_each_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = Lines()
    for second, what, done in ((0, "reading", 0), (1, "tokenizing", 0), (5, "tokenizing", 10)):
        now[0] = second
        lines(what, done, 100)
    now[0] = 12
    lines("tokenizing", 40, 100)
    assert capsys.readouterr().err.splitlines() == [
        "Preparing the data: reading",
        "Preparing the data: tokenizing",
        "Preparing the data: tokenizing 40%",
    ]


def test_help_keeps_the_names_of_tables(mlxt: Mlxt) -> None:
    """Rich would take [train] for markup and leave it out."""
    shown = " ".join(mlxt("ladder", "--help").out.split())
    assert "takes [data] and the budget of [train] from the last recipe" in shown


def test_help_keeps_the_placeholder_of_a_picture(mlxt: Mlxt) -> None:
    """Markdown would take <image> for HTML and leave it out."""
    assert "<image>" in mlxt("look", "--help").out
    assert "<image>" in mlxt("generate", "--help").out
