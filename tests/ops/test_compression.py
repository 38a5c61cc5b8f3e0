"""Quantization, pruning and distillation of one layer."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops import awq, distillation, gptq, packed, pruning
from mlx_transformers.ops.sparsegpt import sparsegpt

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(6, 64))
INPUTS = RNG.normal(size=(128, 64)) @ RNG.normal(size=(64, 64))
H = 2 / len(INPUTS) * np.float64(INPUTS).T @ np.float64(INPUTS)


def output_error(changed: np.ndarray) -> float:
    """The squared error of the layer's outputs."""
    return float((((WEIGHT - changed) @ INPUTS.T) ** 2).sum())


def codes_of(words: mx.array, bits: int) -> np.ndarray:
    """The codes of packed words, bit by bit from the lowest."""
    stream = np.unpackbits(np.array(words).view(np.uint8), axis=-1, bitorder="little")
    return stream.reshape(len(stream), -1, bits) @ (1 << np.arange(bits))


@pytest.mark.parametrize("bits", packed.BITS)
def test_codes_are_packed_as_mlx_packs_them(bits: int) -> None:
    words, *_ = packed.pack(mx.array(WEIGHT), packed.Packing(bits, 32))
    codes = codes_of(words, bits)
    assert codes.max() == 2**bits - 1
    assert mx.array_equal(packed.packed_codes(codes, bits), words)


@pytest.mark.parametrize("how", [packed.Packing(3, 32), packed.Packing(4, 32, "mxfp4")])
@pytest.mark.parametrize("rows", [2, packed.ROWS])
def test_products_of_few_and_many_rows_are_those_of_the_matrix(
    how: packed.Packing, rows: int
) -> None:
    parts = packed.pack(mx.array(WEIGHT), how)
    x = mx.array(INPUTS[:rows]).astype(mx.float32)

    def loss(x: mx.array) -> mx.array:
        return (packed.product(x, parts, how) ** 2).sum()

    matrix = np.array(packed.unpack(parts, how), np.float64)
    y = INPUTS[:rows] @ matrix.T
    value, grad = mx.compile(mx.value_and_grad(loss))(x)
    assert value.item() == pytest.approx((y**2).sum(), rel=1e-5)
    np.testing.assert_allclose(grad, 2 * y @ matrix, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "how", [(7, 64, "affine"), (4, 48, "affine"), (4, 64, "mxfp4"), (4, 16, "fp4")]
)
def test_packings_that_mlx_lacks_have_a_fault(how: tuple[int, int, str]) -> None:
    assert packed.Packing(*how).fault()  # type: ignore[arg-type]


def test_gptq_equals_elimination_column_by_column() -> None:
    """Against the naive form, which removes a column from the inverse Hessian at each step."""
    grids = gptq.MlxGrids(packed.Packing(3, 32))
    found = gptq.gptq(WEIGHT, H, grids, group=32)
    w, inverse = WEIGHT.copy(), np.linalg.inv(H + 0.01 * np.mean(np.diag(H)) * np.eye(64))
    for j in range(64):
        if j % 32 == 0:
            level = grids.fit(w[:, j : j + 32])
        value = level.values(level.codes(w[:, j]))
        error = (w[:, j] - value) / inverse[j, j]
        w -= np.outer(error, inverse[j])
        inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        np.testing.assert_allclose(found.values[:, j], value, atol=1e-9)


def test_gptq_makes_up_for_the_scales_as_they_are_stored() -> None:
    how = packed.Packing(3, 32)
    found = gptq.gptq(WEIGHT, H, gptq.MlxGrids(how, mx.float16), group=32)
    levels = [level for level in found.levels if isinstance(level, gptq.MlxLevels)]
    floats = ([level.scale for level in levels], [level.bias for level in levels])
    stored = [mx.array(np.stack(part, axis=1)).astype(mx.float16) for part in floats]
    values = packed.unpack([packed.packed_codes(found.codes, 3), *stored], how)
    np.testing.assert_allclose(np.array(values), found.values, atol=1e-6)


def test_second_order_methods_lose_less_than_rounding_and_magnitude() -> None:
    how = packed.Packing(3, 32)
    plain = np.array(packed.rounded(mx.array(WEIGHT), how), np.float64)
    better = gptq.gptq(WEIGHT, H, gptq.MlxGrids(how), group=32).values
    assert output_error(better) < 0.7 * output_error(plain)
    mask = np.array(pruning.magnitude_mask(mx.array(WEIGHT), 0.5))
    found = sparsegpt(WEIGHT, H, 0.5)
    assert found.mask.mean() == pytest.approx(0.5, abs=0.02)
    assert output_error(found.weight) < 0.9 * output_error(WEIGHT * mask)


@pytest.mark.parametrize("n_of_m", [(2, 3), (3, 7), (20, 63)])
def test_sparsegpt_keeps_n_of_every_m_across_its_blocks(n_of_m: tuple[int, int]) -> None:
    mask = sparsegpt(WEIGHT[:, :63], H[:63, :63], n_of_m=n_of_m, block=32).mask
    assert (mask.reshape(6, -1, n_of_m[1]).sum(axis=-1) == n_of_m[0]).all()


def test_awq_lets_inputs_of_large_magnitude_lose_less() -> None:
    how = packed.Packing(3, 32)
    x = mx.array(INPUTS * np.where(np.arange(64) % 8 == 0, 20, 1))
    weight = mx.array(WEIGHT)
    errors = [
        ((x @ (weight - packed.rounded(weight * scales, how) / scales).T) ** 2).mean().item()
        for scales in awq.input_scales(mx.abs(x).mean(axis=0))
    ]
    assert min(errors) < 0.8 * errors[0]  # exponent 0 leaves all scales at 1
    clipped = awq.best_clip(weight, x, lambda w: packed.rounded(w, how), 32)
    assert clipped.shape == weight.shape


def test_gradients_pass_straight_through() -> None:
    weight = mx.array(WEIGHT)
    passed = mx.grad(lambda w: packed.straight_through(w, packed.Packing(2, 32)).sum())(weight)
    assert mx.array_equal(passed, mx.ones(weight.shape))


def test_masks_keep_what_they_say() -> None:
    weight = mx.array(WEIGHT)
    assert (pruning.n_of_m_mask(mx.abs(weight), 2, 4).reshape(-1, 4).sum(axis=1) == 2).all()
    first = pruning.magnitude_mask(weight, 0.5)
    second = pruning.magnitude_mask(weight, 0.5, within=first)
    assert second.sum() == weight.size // 4
    assert not (second & ~first).any()


def test_the_generalised_divergence_joins_both_kls() -> None:
    student, teacher = (distillation.log_softmax(mx.array(w[:, :9])) for w in (WEIGHT, WEIGHT * -1))
    assert mx.allclose(
        distillation.generalised_jsd(student, teacher, 1e-4) / 1e-4,
        distillation.kl(teacher, student),
        rtol=1e-2,
    )
    both = distillation.generalised_jsd(student, teacher, 0.5)
    assert mx.allclose(both, distillation.generalised_jsd(teacher, student, 0.5), rtol=1e-5)
