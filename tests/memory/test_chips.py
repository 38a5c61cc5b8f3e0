"""Macs by name, and what they could do."""

import pytest

from mlx_transformers.core.errors import RecipeError
from mlx_transformers.memory.chips import CHIPS, find_mac
from mlx_transformers.memory.roofline import LEAST, MOST, speed


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("M3 Max 64GB", "M3 Max 64GB"),
        ("m3 max, 64 GB".replace(",", ""), "M3 Max 64GB"),
        ("Apple M1", "M1 8GB"),
        ("M2Ultra192gb", "M2 Ultra 192GB"),
    ],
)
def test_a_mac_is_found_however_it_is_written(text: str, name: str) -> None:
    assert find_mac(text).name == name


@pytest.mark.parametrize("mac", [f"{c.name} {gb}GB" for c in CHIPS for gb in c.memory_gb])
def test_every_chip_and_size_is_found(mac: str) -> None:
    assert find_mac(mac).name == mac


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("M3 Mx", "Did you mean 'M3 Max'"),
        ("M3 Max 65GB", "36, 48, 64, 96, 128 GB"),
        ("", "Unknown chip"),
        ("Xeon", "Known: M1"),
    ],
)
def test_a_chip_that_is_none_is_answered_with_those_there_are(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        find_mac(text)


def test_the_single_precision_peak_of_m1_is_the_published_one() -> None:
    assert find_mac("M1").chip.fp32_tflops == pytest.approx(2.6, abs=0.05)
    assert find_mac("M1").chip.flops("float32") == find_mac("M1").chip.flops("bfloat16")
    assert find_mac("M5").chip.flops("bfloat16") > find_mac("M5").chip.flops("float32")


def rate(**changes: float) -> object:
    given = {"tokens": 1000, "flops_per_token": 1e9, "weights": 1e6, "state": 2e6, "saved": 1e6}
    return speed(**(given | {"accumulate": 1, "peak_flops": 1e12, "bandwidth": 1e11} | changes))


def test_much_arithmetic_is_limited_by_arithmetic() -> None:
    found = rate()
    assert found.limit == "arithmetic"
    assert (found.least, found.most) == pytest.approx((LEAST * 1000, MOST * 1000))
    assert found.hours(3600 * 1000) == pytest.approx((1 / MOST, 1 / LEAST))


def test_many_bytes_are_limited_by_bandwidth() -> None:
    assert rate(saved=1e12).limit == "bandwidth"
    assert rate(saved=1e12).most < rate().most
