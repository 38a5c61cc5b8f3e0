"""The masked autoencoder against its paper's steps in NumPy, and what is taken from it."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly import registry as _registry  # noqa: F401 - fills the slots
from mlx_transformers.assembly.picture_checks import check_pictures
from mlx_transformers.assembly.published import typed_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.data.tokenizers.numbers import NumberTokenizer
from mlx_transformers.objectives.mae import MaskedPatches, drawn, own_keys
from mlx_transformers.verbs.finetune import finetune
from mlx_transformers.verbs.train import train

from .test_seeing import STACK, VISION

RECIPES = Path(__file__).parents[2] / "recipes" / "vision"
DECODER = {name: STACK[name] for name in ("n_layers", "block", "norm")} | {
    "dim": 4,
    "embed": {"kind": "token"},
    "position": {"kind": "learned"},
}
PICTURES = VISION | {
    "image_size": [4, 6],
    "position": {"kind": "grid", "rows": 2, "columns": 3},
}
MAE: dict[str, Any] = {"kind": "mae", "vision": PICTURES, "decoder": DECODER, "mask_ratio": 0.6}
ORDER = np.array([[4, 1, 0, 2, 3, 5], [2, 5, 4, 3, 1, 0]])


def model(table: dict[str, Any] = MAE) -> Any:
    mx.random.seed(0)
    return typed_model(table, "a test").build(256)


def with_mixer(**change: Any) -> dict[str, Any]:
    """The table of a block whose mixer differs."""
    block: dict[str, Any] = PICTURES["block"]
    return block | {"mixer": block["mixer"] | change}


def patches(pixels: np.ndarray) -> np.ndarray:
    """The patches of pictures `[B, 4, 6, 1]`, `[B, 6, 4]`."""
    cut = [
        pixels[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(len(pixels), -1)
        for row in range(2)
        for column in range(3)
    ]
    return np.stack(cut, axis=1)


def test_a_picture_is_reconstructed_as_in_the_paper() -> None:
    """Embed and mask; encode what is seen; put mask tokens and positions beside it; decode."""
    mae = model()
    assert mae.n_visible == 2
    mae.decoder.embed.table.weight = mx.random.normal((1, 4))
    pixels = np.random.default_rng(0).standard_normal((2, 4, 6, 1)).astype(np.float32)
    w = {name: np.asarray(array) for name, array in tree_flatten(mae.parameters())}
    x = patches(pixels) @ w["vision.embed.project.weight"].T + w["vision.embed.project.bias"]
    front = np.broadcast_to(w["vision.embed.class_token"], (2, 1, 8))
    x = np.concatenate([front, x], axis=1) + w["vision.position.table.weight"]
    seen = np.stack([row[[0, *(1 + order[:2])]] for row, order in zip(x, ORDER, strict=True)])
    encoded = np.asarray(mae.vision.features(mx.array(seen), Context(Layout(causal=False))))
    y = encoded @ w["decoder.project.weight"].T + w["decoder.project.bias"]
    full = np.broadcast_to(w["decoder.embed.table.weight"][0], (2, 7, 4)).copy()
    for row, order in enumerate(ORDER):
        full[row, [0, *(1 + order[:2])]] = y[row]
    full = full + w["decoder.position.table.weight"]
    decoded = np.asarray(mae.decoder.forward(mx.array(full), Context(Layout(causal=False))))
    said = decoded @ w["decoder.out.weight"].T + w["decoder.out.bias"]
    found = np.asarray(mae.reconstruct(mx.array(pixels), mx.array(ORDER), Context()))
    np.testing.assert_allclose(found, said[:, 1:], atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_the_error_of_masked_pixels(normalize: bool) -> None:
    draw = np.random.default_rng(1).standard_normal
    reconstructed, pixels = (
        draw((2, 6, 4)).astype(np.float32),
        draw((2, 4, 6, 1)).astype(np.float32),
    )
    wanted = patches(pixels)
    if normalize:
        deviation = np.sqrt(wanted.var(axis=-1, ddof=1, keepdims=True) + 1e-6)
        wanted = (wanted - wanted.mean(axis=-1, keepdims=True)) / deviation
    errors = ((reconstructed - wanted) ** 2).mean(axis=-1)
    expected = [row[order[2:]].mean() for row, order in zip(errors, ORDER, strict=True)]
    objective = MaskedPatches().build()
    targets = model(MAE | {"normalize": normalize}).targets(mx.array(pixels))
    found = objective.errors(mx.array(reconstructed), targets, mx.array(ORDER[:, 2:]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_masks_differ_in_training_and_stay_in_evaluation() -> None:
    mae, objective = model(), MaskedPatches().build()
    batch = {"pixels": mx.random.normal((3, 4, 6, 1)), "weights": mx.array([1.0, 1.0, 0.0])}

    def loss(key: mx.array | None) -> float:
        out = objective({"model": mae}, batch, Context(key=key))
        assert out.weight.item() == 2
        return out.total.item()

    assert loss(None) == loss(None)
    assert loss(mx.random.key(1)) != loss(mx.random.key(2))


def test_the_validation_loss_of_a_picture_is_the_same_in_every_batch() -> None:
    mae, objective = model(), MaskedPatches().build()
    pixels = mx.array(np.random.default_rng(0).integers(0, 256, (6, 4, 6, 1)))
    order = mx.argsort(drawn(own_keys(pixels), mae.n_patches), axis=1)
    assert len(np.unique(np.array(order), axis=0)) > 2

    def loss(rows: mx.array) -> float:
        batch = {"pixels": rows, "weights": mx.ones((len(rows),))}
        return objective({"model": mae}, batch, Context()).total.item()

    one_by_one = sum(loss(pixels[i : i + 1]) for i in range(6))
    assert loss(pixels[::-1]) == pytest.approx(one_by_one, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vision": PICTURES | {"image_size": [2, 2]}}, "one patch"),
        ({"vision": PICTURES | {"position": {"kind": "rope_grid"}}}, "added to each patch: 'grid'"),
        (
            {"vision": PICTURES | {"block": with_mixer(window=2)}},
            "'attention' without a window",
        ),
        ({"vision": PICTURES | {"pool": {"kind": "sentence"}}}, "vision.pool has no effect"),
    ],
)
def test_a_masked_autoencoder_that_does_not_fit_is_refused(
    change: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        typed_model(MAE | change, "a test")


def test_pictures_of_another_size_are_refused() -> None:
    for size, channels, seq_len, cure in [
        ([14, 56], 1, 784, r"set data\.batch\.size = \[28, 28\]"),
        ([28, 28], 3, 784, r"set data\.batch\.channels = 1"),
        ([28, 28], 1, 196, r"set train\.seq_len = 784"),
    ]:
        batch = f"data.batch={{kind='images', size={size}, channels={channels}}}"
        recipe = load_recipe(RECIPES / "mae_tiny.toml", [batch, f"train.seq_len={seq_len}"])
        with pytest.raises(RecipeError, match=cure):
            check_pictures(recipe, NumberTokenizer(256))


def test_a_classifier_starts_from_the_tower(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).integers
    rows = [{"text": " ".join(map(str, draw(0, 256, 784))), "label": n % 2} for n in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    common = [f"data.path={path}", f"data.valid_path={path}", "train.steps=1", "train.batch_size=4"]
    common += ["optim.learning_rate=1e-30", "optim.schedule={kind='constant'}"]
    said: list[str] = []
    runs = {"root": tmp_path / "runs", "say": said.append}
    sizes = ["model.vision.dim=16", "model.vision.n_layers=1"]
    mae = train(load_recipe(RECIPES / "mae_tiny.toml", [*common, *sizes]), name="mae", **runs)
    sizes = ["model.dim=16", "model.n_layers=1"]
    vit = RECIPES / "vit_tiny.toml"
    digits = finetune(mae.folder.path, vit, name="digits", set=[*common, *sizes], **runs)
    pretrained, tuned = (weights(each.folder.path) for each in (mae, digits))
    for name in (name for name in tuned if not name.startswith("pool.")):
        np.testing.assert_allclose(tuned[name], pretrained[f"vision.{name}"], atol=1e-6)
    assert any("Newly initialised: pool." in line and "Unused" not in line for line in said)


def weights(run: Path) -> dict[str, np.ndarray]:
    """The weights of a run's last checkpoint."""
    file = run / "checkpoints" / "step-000001" / "model.safetensors"
    return {name: np.asarray(array) for name, array in mx.load(str(file)).items()}
