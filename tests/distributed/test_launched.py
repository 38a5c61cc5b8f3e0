"""How a process knows that it was launched as one of several."""

from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.distributed import launch, processes

SAID = ("MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "NCCL_HOST_IP", "PMI_SIZE")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SAID, "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("env", "backend"),
    [
        ({}, None),
        ({"MLX_RANK": "0", "MLX_HOSTFILE": "hosts"}, "ring"),
        ({"MLX_RANK": "0", "MLX_HOSTFILE": "blank"}, None),  # mlx.launch -n 1
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"PMI_SIZE": "4"}, "mpi"),
        ({"MLX_RANK": "1", "MLX_IBV_DEVICES": "x"}, "jaccl"),
        ({"MLX_RANK": "1", "NCCL_HOST_IP": "x"}, "nccl"),
    ],
)
def test_the_environment_tells_the_backend(
    env: dict[str, str], backend: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("hosts").write_text('[["127.0.0.1:1"], ["127.0.0.1:2"]]')
    Path("blank").write_text("\n")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert launch.launched() == backend


@pytest.mark.parametrize("file", [None, "", "nowhere.json"])
def test_a_rank_that_knows_no_others_is_an_error(
    file: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_RANK", "1")
    if file is not None:
        monkeypatch.setenv("MLX_HOSTFILE", file)
    with pytest.raises(RunError, match="MLX_RANK is 1, but MLX_HOSTFILE names no file"):
        launch.launched()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"MLX_RANK": "-1"}, r"\$MLX_RANK is '-1', which is not a whole number from 0"),
        ({"MLX_RANK": "one"}, r"\$MLX_RANK is 'one'"),
        ({"MLX_RANK": "9" * 30}, r"\$MLX_RANK is '999"),
        ({"MLX_RANK": "2"}, "MLX_RANK is 2, and hosts has addresses of 2 ranks, 0 to 1"),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, r"\$OMPI_COMM_WORLD_SIZE is 'many'"),
        ({"PMI_SIZE": "0"}, r"\$PMI_SIZE is '0', which is not a whole number from 1"),
    ],
)
def test_odd_environment_values_are_sentences(
    env: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("hosts").write_text('[["127.0.0.1:1"], ["127.0.0.1:2"]]')
    for name, value in ({"MLX_HOSTFILE": "hosts"} | env).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=message):
        launch.launched()


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "null", "[1, 2]", "[[]]", '[["127.0.0.1"]]', "[[3]]", '{"hosts": []}', "[["],
)
def test_odd_addresses_of_a_ring_are_sentences(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hosts").write_text(text)
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("MLX_HOSTFILE", "hosts")
    with pytest.raises(RunError, match="MLX_HOSTFILE"):
        launch.launched()


def test_a_host_file_that_mlx_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hosts").write_text('[["no address:1"], ["127.0.0.1:2"]]')
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("MLX_HOSTFILE", "hosts")
    with pytest.raises(RunError, match=r"can't join the others over ring: .*doctor --hosts"):
        launch.join_job().__enter__()


def test_a_process_alone_exchanges_nothing() -> None:
    with launch.join_job() as ranks:
        assert ranks is processes.SINGLE
        tree = {"a": mx.zeros(3)}
        assert ranks.all_reduce(tree) is ranks.broadcast(tree) is tree
        assert ranks.gather(3) == [3]
        assert ranks.stop("SIGINT") == "SIGINT"
        ranks.agree({"a": 1})
        processes.check_divisible(ranks, train__batch_size=5)


def test_errors_of_mlx_that_have_another_cause_pass_through() -> None:
    with pytest.raises(RuntimeError, match="another"), launch.join_job():
        raise RuntimeError("[ring] another")


def test_buffers_hold_neighbours_of_one_dtype_up_to_a_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "BUCKET_BYTES", 40)
    leaves = [mx.zeros(n) for n in (4, 6, 1, 50, 2)] + [mx.zeros(3, mx.int32), mx.zeros(3)]
    sizes = [[leaf.size for leaf in bucket] for bucket in processes.buckets(leaves)]
    assert sizes == [[4, 6], [1], [50], [2], [3], [3]]
    assert list(processes.buckets([])) == []


def test_rows_are_shared_evenly_or_refused() -> None:
    ranks = processes.Ranks()
    ranks.world = 4
    processes.check_divisible(ranks, train__batch_size=8, eval__batch_size=4)
    with pytest.raises(RecipeError, match=r"eval\.batch_size = 6 .* 4 processes.* Take 4 or 8\."):
        processes.check_divisible(ranks, train__batch_size=8, eval__batch_size=6)
