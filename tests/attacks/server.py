"""Runs `mlxt` commands in forked processes: a fresh process each, without a second of imports.

Reads one JSON object a line from standard input: `argv`, `cwd`, `env`, `out`, `err` (files for the
streams), `timeout_s`, `kill_at` (the number of the file operation that kills it, 0 for none) and
`below` (the folder whose operations count). Answers with the exit code, or the signal as a negative
number; None where the command had to be stopped. MLX must not compute here before the fork: its
threads would not come along.
"""

import gc
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

import matplotlib.pyplot  # noqa: F401
import mlx.core  # noqa: F401

import mlx_transformers.cli.main
import mlx_transformers.verbs.export_run
import mlx_transformers.verbs.finetune
import mlx_transformers.verbs.import_run
import mlx_transformers.verbs.train
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core import device


def main() -> None:
    """Serve commands until standard input ends."""
    measured = device.matmul_flops
    for module in list(sys.modules.values()):
        if vars(module).get("matmul_flops") is measured:  # would take each process a second
            module.matmul_flops = lambda *_, **__: 1e12  # type: ignore[attr-defined]
    load_recipe("mistral_tiny")  # builds the validator of recipes
    gc.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(command)
        print(json.dumps(_wait(child, command["timeout_s"])), flush=True)


def _wait(child: int, timeout_s: float) -> int | None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _become(command: dict[str, Any]) -> None:
    """Run the command in this forked process, and never return."""
    code = 70
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(command["cwd"])
        os.environ.update(command["env"])
        if command["kill_at"] or command["below"]:
            sys.addaudithook(_Killer(command["kill_at"], command["below"]))
        sys.argv = ["mlxt", *command["argv"]]
        mlx_transformers.cli.main.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Killer:
    """An audit hook that kills the process at its k-th change to files below a folder.

    With k = 0 it only counts: the count is written to `<folder>.count`.
    """

    CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.link")

    def __init__(self, at: int, below: str) -> None:
        self.at, self.below, self.count = at, below, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & writes
        if not opened and event not in self.CHANGES:
            return
        if not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if not path.startswith(self.below) or path.endswith(".count"):
            return
        self.count += 1
        if self.at == 0:
            with open(f"{self.below}.count", "w") as file:
                file.write(str(self.count))
        elif self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
