"""Streams that are closed, narrow or broken, and Ctrl-C at any moment: never a traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlx_transformers.cli import entry
from mlx_transformers.cli import main as command
from mlx_transformers.cli.main import check_environment
from mlx_transformers.core.errors import MlxtError

MLXT = [sys.executable, "-W", "ignore", "-c", "from mlx_transformers.cli.entry import main; main()"]


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which `$MLXT` is the verb's command line."""
    quoted = " ".join(f"'{word}'" for word in MLXT)
    env = os.environ | {"MLX_DISABLE_COMPILE": "1", **environment}
    line = ["bash", "-c", f'mlxt() {{ {quoted} "$@"; }}; {command}']
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, timeout=120)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(tmp_path: Path, closed: str) -> None:
    done = shell(f"mlxt recipes {closed}", tmp_path)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_lacks_a_character_prints_its_escape(tmp_path: Path, encoding: str) -> None:
    done = shell("mlxt recipes 日本", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert rb"\u65e5\u672c" in done.stderr


@pytest.mark.parametrize("value", ["x", "0", "-1", ""])
def test_a_variable_with_which_mlx_waits_for_ever_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MLX_BFS_MAX_WIDTH", value)
    with pytest.raises(MlxtError, match="MLX_BFS_MAX_WIDTH is"):
        check_environment()


def test_a_name_that_is_not_utf8_is_a_sentence(tmp_path: Path) -> None:
    done = shell(r"mlxt train mistral_tiny --name $'x\xff' --set data.path=$'y\xff'", tmp_path)
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
    assert b"not UTF-8" in done.stderr


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.3])
def test_an_early_interrupt_ends_the_command_without_a_traceback(after_s: float) -> None:
    process = subprocess.Popen([*MLXT, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    ours = [line for line in errors.splitlines() if b"mlx_transformers/cli/" in line]
    assert not ours, errors.decode()


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    done = shell("mlxt schema | head -c 1", tmp_path)
    assert (done.stdout, done.stderr) == (b"{", b"")


def test_a_second_interrupt_while_the_first_is_answered_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "main", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            entry.main()
        # A third one ends the wait for a checkpoint that is being written, which is safe to cut.
        assert (ended.value.code, signal.getsignal(signal.SIGINT)) == (130, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGINT, before)
