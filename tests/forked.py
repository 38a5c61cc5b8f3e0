"""Python processes forked from a server that has imported the package: fresh ones, without a
second of imports each.

`Popen(["-c", code, ...], ...)` has the methods of `subprocess.Popen` that the tests use. The server
is this file as a script, one for each process of pytest. It computes nothing before a fork, since
MLX's threads would not come along, and its children draw no report of their runs. Patches of a
program have to reach the names that modules have imported already, as `tiny.MLXT` does.
"""

import atexit
import functools
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

ROOT = Path(__file__).parents[1]


@functools.cache
def server() -> "subprocess.Popen[str]":
    """The server of this process; it ends with it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MLX_DISABLE_COMPILE": "1"}
    command = [sys.executable, __file__]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None
    atexit.register(process.communicate)  # closes its input, and waits
    return process


class Popen:
    """`python WORDS` in a forked process, its streams in files."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: str | Path,
        env: Mapping[str, str],
        stdout: str | Path,
        stderr: str | Path,
    ) -> None:
        self.returncode: int | None = None
        handle, self._status = tempfile.mkstemp(prefix="status")
        os.close(handle)
        request = {"words": list(words), "cwd": str(cwd), "env": dict(env)}
        request |= {"streams": [str(stdout), str(stderr)], "status": self._status}
        pipes = server()
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        pipes.stdin.write(json.dumps(request) + "\n")
        pipes.stdin.flush()
        self.pid = int(pipes.stdout.readline())

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None and (text := Path(self._status).read_text()):
            self.returncode = int(text)
            os.unlink(self._status)
        return self.returncode

    def wait(self, timeout: float = 300.0) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs; it is killed.
        """
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                self.kill()
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float = 300.0
) -> "subprocess.CompletedProcess[str]":
    """`python WORDS` to its end, as `subprocess.run` does with captured output."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Popen(words, cwd=cwd, env=env, stdout=out, stderr=err)
        code = process.wait(timeout)
        texts = (path.read_text(errors="replace") for path in (out, err))
        return subprocess.CompletedProcess(list(words), code, *texts)


def serve(requests: TextIO) -> list[str]:
    """Fork for every request; returns in each child, with the words of its program."""
    running: dict[int, str] = {}
    while True:
        ready, _, _ = select.select([requests.fileno()], [], [], 0.005 if running else None)
        if ready:
            line = requests.readline()
            if not line:
                os._exit(0)
            request = json.loads(line)
            child = os.fork()
            if not child:
                return become(request)
            running[child] = request["status"]
            print(child, flush=True)
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            partial = Path(running.pop(ended[0]))
            partial.write_text(str(os.waitstatus_to_exitcode(ended[1])))


def become(request: dict[str, Any]) -> list[str]:
    """Take the folder, the environment and the streams of a request."""
    for number, path in enumerate(request["streams"], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    words: list[str] = request["words"]
    return words


def main() -> None:
    """Serve; in a child, run its program, and end as any interpreter does."""
    import mlx_transformers  # before mlx: it chooses the BLAS
    import mlx_transformers.cli.main
    import mlx_transformers.verbs.export_run
    import mlx_transformers.verbs.finetune
    import mlx_transformers.verbs.import_run
    import mlx_transformers.verbs.train  # noqa: F401
    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.core import device
    from mlx_transformers.report import runs

    load_recipe("mistral_tiny")  # builds the validator of recipes: half a second for each process
    runs.written = "Report: {}/report.html".format
    measured = device.matmul_flops
    for module in list(sys.modules.values()):
        if vars(module).get("matmul_flops") is measured:  # would take each process half a second
            vars(module)["matmul_flops"] = lambda *_, **__: 1e12
    sys.path.remove(str(Path(__file__).parent))  # a program has "" or its own folder there
    gc.freeze()  # a collection would copy every page that is shared with the server
    program, *arguments = serve(os.fdopen(0, "r", closefd=False))
    if program == "-c":
        code, *arguments = arguments
        sys.argv, sys.path = ["-c", *arguments], ["", *sys.path]
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv, sys.path = [program, *arguments], [str(Path(program).parent), *sys.path]
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
