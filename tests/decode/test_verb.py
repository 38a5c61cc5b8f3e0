"""`mlxt generate` as a user runs it."""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from mlx_transformers.cli import generate as module
from mlx_transformers.cli.generate import generate as verb
from mlx_transformers.cli.generate_run import Opened
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.decode import generate as library
from mlx_transformers.decode.sample import Sampling

from .models import Script, decoder

Run = Callable[..., Result]
BYTES = ByteTokenizer()


class Interrupting(ByteTokenizer):
    """The user presses Ctrl-C when a '!' has been drawn."""

    def token_bytes(self, token: int) -> bytes:
        if token == ord("!"):
            raise KeyboardInterrupt
        return super().token_bytes(token)


def opens(monkeypatch: pytest.MonkeyPatch, model: Any, tokenizer: Any) -> None:
    """Make the verb open this model instead of a run."""
    opened = Opened(None, model, tokenizer, None, reads_source=False)
    monkeypatch.setattr(module, "one_run", lambda run, named, draft: run)
    monkeypatch.setattr(module, "open_run", lambda run: opened)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the verb on a model that says "Hello wörld!" after a prompt of 3 bytes."""
    tokenizer = ByteTokenizer()
    script = [*"Hello w\u00f6rld!".encode(), 256]

    def invoke(*arguments: str, stdin: bytes = b"", tokenizer: ByteTokenizer = tokenizer) -> Result:
        opens(monkeypatch, Script(script, n_prompt=3), tokenizer)
        app = typer.Typer()
        app.command()(verb)
        greedy = () if "--beams" in arguments else ("--temp", "0")
        return CliRunner().invoke(app, [*greedy, *arguments], input=stdin)

    return invoke


def test_text_goes_to_standard_output_and_numbers_to_standard_error(run: Run) -> None:
    result = run("--prompt", "abc")
    assert result.exit_code == 0
    assert result.stdout == "Hello w\u00f6rld!\n"
    assert re.fullmatch(
        r"prompt: 3 tokens, [\d,.]+ tokens/s; generation: 14 tokens, [\d,.]+ tokens/s, "
        r"ended by the model; cache: [\d.]+ MiB; peak memory: [\d.]+ GiB\n",
        result.stderr,
    )


def test_a_dash_reads_the_prompt_from_standard_input(run: Run) -> None:
    result = run("--prompt", "-", stdin="\u00f6x\n".encode())
    assert result.stdout == "Hello w\u00f6rld!\n"
    assert "prompt: 3 tokens" in result.stderr
    strange = run("--prompt", "-", stdin=b"ab\xff")
    assert isinstance(strange.exception, RunError)
    assert "not UTF-8 text: byte 0xff at 2" in str(strange.exception)


def test_stop_strings_and_the_limit_end_the_text(run: Run) -> None:
    assert run("--prompt", "abc", "--stop", "zz", "--stop", "w\u00f6").stdout == "Hello \n"
    assert run("--prompt", "abc", "--max-tokens", "4").stdout == "Hell\n"


def test_interrupting_shows_the_numbers_so_far(run: Run) -> None:
    result = run("--prompt", "abc", tokenizer=Interrupting())
    assert result.exit_code == 130
    assert result.stdout == "Hello w\u00f6rld\n"
    assert "generation: 13 tokens" in result.stderr
    assert "interrupted" in result.stderr


def test_several_prompts_and_samples_are_printed_one_after_the_other(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text("xyz\r\n\nuvw\n")
    result = run("--prompt", "abc", "--prompts", str(tmp_path / "p.txt"))
    assert result.stdout == "".join(f"--- prompt {n} ---\nHello w\u00f6rld!\n" for n in (1, 2, 3))
    result = run("--prompt", "abc", "--samples", "2", "--json", "--max-tokens", "4")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"prompt": "abc", "sample": n, "text": "Hell", "tokens": 4, "end_reason": "length"}
        for n in (1, 2)
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give a prompt"),
        (["--prompts", "absent.txt"], "can't be read"),
        (["--prompt", "-", "--prompt", "-"], "given once"),
        (["--prompt", "abc", "--beams", "0"], "beams = 0"),
        (["--prompt", "abc", "--beams", "2", "--length-penalty", "nan"], "alpha = nan"),
        (["--prompt", "abc", "--temp", "nan"], "temp = nan"),
        (["--prompt", "abc", "--draft-tokens", "3"], "no effect without --draft"),
        (["--prompt", "abc", "--exit-measure", "margin"], "no effect without --exit-threshold"),
        (["--prompt", "abc", "--kv-group-size", "32"], "no effect without --kv-bits"),
        (["--prompt", "abc", "--set", "tools.calculator=true"], "no effect without --tools"),
        (["-p", "abc", "--beams", "2", "--seed", "1", "--stop", "x"], "--seed and --stop"),
        (["--prompt", "abc", "--draft", "lookup", "--json"], "--json doesn't go with speculative"),
        (["--prompt", "abc", "--length-penalty", "1"], "--length-penalty doesn't go with a text"),
        (["-p", "abc", "-p", "xyz", "--draft", "lookup"], "2 prompts don't go with speculative"),
    ],
)
def test_what_generates_nothing_is_refused_in_a_sentence(
    run: Run, arguments: list[str], said: str
) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, RunError)
    assert said in str(result.exception)


def test_a_value_out_of_range_is_refused_before_loading(run: Run) -> None:
    result = run("--prompt", "abc", "--top-p", "2")
    assert isinstance(result.exception, RunError)
    assert "top_p = 2.0 is out of range" in str(result.exception)


def test_without_a_run_the_error_says_how_to_train_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(verb)
    result = CliRunner().invoke(app, ["--prompt", "x"])
    assert isinstance(result.exception, RunError)
    assert "mlxt train recipes/mistral_tiny.toml" in str(result.exception)


def test_options_and_defaults_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sampling option is an option of the verb, with the same default, and arrives."""
    options = inspect.signature(verb).parameters
    assert {f.name: options[f.name].default for f in fields(Sampling)} == {
        f.name: f.default for f in fields(Sampling)
    }
    for name in ("max_tokens", "seed"):
        assert options[name].default == inspect.signature(library.stream).parameters[name].default
    seen: list[Sampling] = []

    def watching(*args: object, sampling: Sampling, **rest: object) -> library.Stream:
        seen.append(sampling)
        engine = library.Engine(decoder(vocab_size=257), sampling=sampling)
        request = library._Request([[97]], engine, max_tokens=1)
        return library.Stream(request, library.TextWriter(BYTES, ()))

    opens(monkeypatch, decoder(vocab_size=257), None)
    monkeypatch.setattr(library, "stream", watching)
    app = typer.Typer()
    app.command()(verb)
    values = {
        "temp": 0.5,
        "top_p": 0.6,
        "top_k": 7,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "repetition_window": 9,
    }
    flags = [text for name, v in values.items() for text in (f"--{name.replace('_', '-')}", str(v))]
    assert CliRunner().invoke(app, ["--prompt", "x", *flags]).exit_code == 0
    assert seen == [Sampling(**values)]  # type: ignore[arg-type]
