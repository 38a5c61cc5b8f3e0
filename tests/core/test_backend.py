"""What stands before MLX on a Linux CPU, each case in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_transformers.core import backend, cpu_streams, jit

LINUX = sys.platform.startswith("linux")
linux_only = pytest.mark.skipif(not LINUX, reason="the backend does nothing elsewhere")

REPORT = """
import json, os, sys, tempfile, warnings
warnings.simplefilter("ignore")
before = tempfile.gettempdir()
{first}
import mlx_transformers
import mlx.core as mx
from mlx_transformers.core import backend
report = backend.prepare()
print(json.dumps({{
    "blas": report.blas, "jit": report.jit, "warnings": report.warnings, "notes": report.notes,
    "streams": report.cpu_streams, "walk": os.environ.get("MLX_BFS_MAX_WIDTH"),
    "one_stream": report.one_stream,
    "same": backend.prepare() is report, "tempdir": tempfile.gettempdir() == before,
    "path": os.environ["PATH"].split(os.pathsep)[0], "sum": mx.ones((3, 3)).sum().item(),
}}))
"""


def start(cache: Path, first: str = "", **environment: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLXT_", "MLX_DISABLE"))}
    clean |= {"MLXT_CACHE": str(cache), "OPENBLAS_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", REPORT.format(first=first)],
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told_by(process: subprocess.Popen[str]) -> dict:
    told, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(told)


def report(cache: Path, first: str = "", **environment: str) -> dict:
    return told_by(start(cache, first, **environment))


@linux_only
def test_preparing_twice_is_preparing_once_and_leaves_temporary_files_where_they_were(
    tmp_path: Path,
) -> None:
    found = report(tmp_path)
    assert found["same"]
    assert found["tempdir"]
    assert found["sum"] == 9.0


@linux_only
def test_a_switch_turns_all_of_it_off(tmp_path: Path) -> None:
    found = report(tmp_path, MLXT_NO_BOOST="1", MLXT_CPU_STREAMS="2")
    assert "MLXT_NO_BOOST" in found["blas"]
    assert found["streams"] == 1
    assert "MLXT_NO_BOOST" in found["one_stream"]
    assert not list(tmp_path.iterdir())
    assert found["warnings"] == []


@linux_only
def test_coming_after_mlx_is_told(tmp_path: Path) -> None:
    found = report(tmp_path, first="import mlx.core", MLXT_CPU_STREAMS="2")
    assert "Import mlx_transformers first" in " ".join(found["warnings"])
    assert found["streams"] == 1
    assert "before mlx" in found["one_stream"]


@linux_only
@pytest.mark.parametrize(
    ("environment", "streams", "walk"),
    [
        ({}, 1, None),
        ({"MLXT_CPU_STREAMS": "auto"}, 1, None),
        ({"OPENBLAS_NUM_THREADS": "2"}, 2, "1000"),
        ({"OPENBLAS_NUM_THREADS": "2", "MLXT_CPU_STREAMS": "1"}, 1, None),
        ({"MLXT_CPU_STREAMS": "3", "MLX_BFS_MAX_WIDTH": "50"}, 3, "50"),
        ({"MLXT_CPU_STREAMS": "many"}, 1, None),
    ],
    ids=["one thread", "auto", "two threads", "one stream", "three, a width of one's own", "none"],
)
def test_there_are_as_many_streams_as_threads_or_as_a_user_asks_for(
    tmp_path: Path, environment: dict[str, str], streams: int, walk: str | None
) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    found = report(tmp_path, **environment)
    if "OpenBLAS" not in found["blas"] and "MLXT_CPU_STREAMS" not in environment:
        streams, walk = 1, None
    assert (found["streams"], found["walk"]) == (streams, walk)


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 2), (4, 4), (5, 1), (64, 1)])
def test_many_cores_want_one_stream(
    threads: int, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cpu_streams.CHOICE, raising=False)
    assert cpu_streams.wanted(threads) == streams


@linux_only
def test_a_machine_without_a_compiler_trains_without_fused_kernels(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    found = report(tmp_path, PATH=str(empty))
    assert found["jit"] == "none"
    assert "Install g++" in " ".join(found["warnings"])
    assert found["sum"] == 9.0


@linux_only
def test_a_cache_that_cannot_be_written_costs_speed_and_nothing_else(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert report(blocked)["sum"] == 9.0


@linux_only
def test_a_child_inherits_the_wrapper_and_does_not_wrap_it_again(tmp_path: Path) -> None:
    if jit.real_compiler() is None:
        pytest.skip("no g++ here")
    parent = report(tmp_path)
    child = report(tmp_path, PATH=os.pathsep.join([parent["path"], os.environ["PATH"]]))
    assert child["path"] == parent["path"]
    assert child["jit"] == parent["jit"]


@linux_only
def test_processes_that_start_together_agree_and_leave_nothing_half_written(tmp_path: Path) -> None:
    reports = [told_by(process) for process in [start(tmp_path) for _ in range(3)]]
    assert len({(found["blas"], found["jit"]) for found in reports}) == 1
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


@linux_only
def test_only_the_loops_of_a_kernel_are_called_independent(tmp_path: Path) -> None:
    compiler = jit.real_compiler()
    if compiler is None:
        pytest.skip("no g++ here")
    wrapper = tmp_path / "g++"
    jit._write(wrapper, jit._script(compiler, ""))
    loop = "  for (int i = 0; i < n; ++i) x[i] += 1;\n"
    for folder, told in (("mlx/1.0/cpu", True), ("elsewhere", False)):
        source = tmp_path / folder / "kernel.cpp"
        source.parent.mkdir(parents=True)
        source.write_text(f"void f(float* x, int n) {{\n{loop}}}\n")
        command = [wrapper, "-shared", "-fPIC", "-Werror", source, "-o", source.with_suffix(".so")]
        subprocess.run(command, check=True)
        assert (f"#pragma GCC ivdep\n{loop}" in source.read_text()) == told


@linux_only
def test_a_header_is_precompiled_by_one_process_while_others_wait(tmp_path: Path) -> None:
    compiler = jit.real_compiler()
    if compiler is None:
        pytest.skip("no g++ here")
    wrapper, include = tmp_path / "g++", tmp_path / "include"
    jit._write(wrapper, jit._script(compiler, ""))
    (include / jit.HEADER).parent.mkdir(parents=True)
    (include / jit.HEADER).write_text("int value = 3;\n")
    made = tmp_path / "made" / f"{jit.HEADER}.gch"
    command = [wrapper, jit.PRECOMPILE, include, made]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert [path.name for path in made.parent.iterdir()] == [made.name]


@linux_only
def test_a_damaged_kernel_is_compiled_again(tmp_path: Path) -> None:
    if jit.real_compiler() is None:
        pytest.skip("no g++ here")
    fuse = (
        "import mlx_transformers, mlx.core as mx; "
        "mx.eval(mx.compile(lambda x: x * mx.exp(x))(mx.ones((3,))))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLXT_", "MLX_DISABLE"))}
    clean |= {"MLXT_CACHE": str(tmp_path)}
    run = [sys.executable, "-W", "ignore", "-c", fuse]
    subprocess.run(run, env=clean, check=True, timeout=120)
    (kernel,) = tmp_path.rglob("mlx/*/cpu/*.so")
    assert jit.finished(kernel)
    (header,) = tmp_path.rglob("*.gch")
    for damaged in (kernel, header):
        damaged.write_bytes(damaged.read_bytes()[:1000])
    subprocess.run(run, env=clean, check=True, timeout=120)
    assert jit.finished(kernel)


def test_what_another_process_compiles_now_is_not_taken_for_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "mlx" / "1.0" / "cpu"
    folder.mkdir(parents=True)
    for name in ("tmp_0a1b2c3d.so", "libhalf.so", "libwhole.so"):
        (folder / name).write_bytes(b"code")
    jit.stamp(folder / "libwhole.so")
    assert jit.discard_damaged(tmp_path) == 1
    assert sorted(p.name for p in folder.iterdir()) == ["libwhole.so", "tmp_0a1b2c3d.so"]


def test_deleting_kernels_leaves_what_running_processes_need(tmp_path: Path) -> None:
    kept = {"bin/g++", "mlx/1.0/cpu/tmp_0a1b2c3d.cpp", "mlx/1.0/cpu/tmp_0a1b2c3d.so.77"}
    for name in (*kept, "mlx/1.0/cpu/libwhole.so", "mlx/1.0/cpu/whole.cpp", "mlx/1.0/pre/a.h.gch"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"code")
    jit.delete_kernels(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == kept
    assert (tmp_path / "mlx/1.0/pre").is_dir()


@linux_only
def test_a_read_only_or_full_cache_is_gone_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").write_text("in the way")
    blocked = jit._writable(tmp_path / "file" / "jit")
    assert blocked == tmp_path / f"mlxt-{os.getuid()}" / "jit"
    monkeypatch.setattr(jit, "ROOM", 1 << 62)
    assert jit._writable(tmp_path / "jit") == blocked
    blocked.parent.chmod(0o777)
    with pytest.raises(OSError, match="belongs to somebody else"):
        jit._writable(tmp_path / "jit")


def test_nothing_happens_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(backend, "_report", None)
    monkeypatch.setattr(backend, "_front_blas", lambda r: pytest.fail("no BLAS on macOS"))
    monkeypatch.setattr(backend, "_vectorise", lambda r: pytest.fail("no compiler on macOS"))
    found = backend.prepare()
    assert found.blas == found.jit == "MLX's own"
