"""Facts about the machine."""

import json

import mlx.core as mx

from mlx_transformers.core.device import facts, matmul_flops, memory_bytes, working_set_bytes


def test_facts_can_be_kept_in_a_file_and_name_what_is_in_force() -> None:
    found = json.loads(json.dumps(facts()))
    assert found["mlx"] == mx.__version__
    assert found["blas"]
    assert found["kernels"]
    assert found["matmul_gflop_per_s"] > 0


def test_the_working_set_is_part_of_the_memory() -> None:
    assert 0 < working_set_bytes() <= memory_bytes()


def test_a_matrix_product_is_timed_in_the_type_asked_for() -> None:
    assert matmul_flops(mx.float32, repeats=1) > 1e6
