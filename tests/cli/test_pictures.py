"""Models of pictures from their records to captions and retrieval, and prompts that don't fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.score.retrieval import ranks
from mlx_transformers.verbs.tasks.measure import measure
from mlx_transformers.verbs.train import train

from .conftest import Mlxt

RECIPES = Path(__file__).parents[2] / "recipes" / "multimodal"
COLOURS = ("red", "green", "blue", "white", "black", "yellow")
TOWER = [
    "model.vision.image_size=[8,8]",
    "model.vision.dim=16",
    "model.vision.n_layers=1",
    "model.vision.embed.size=4",
    "model.vision.position.rows=2",
    "model.vision.position.columns=2",
    "data.batch.size=[8,8]",
    "data.batch.shift=0",
    "data.tokenizer={kind='words'}",
    "train.steps=2",
    "train.batch_size=4",
    "eval.batch_size=4",
]
IMAGE_TOKEN = 11
"""After <unk>, 9 words and the end token."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour, their names, and text without a picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for colour in COLOURS:
        Image.new("RGB", (16, 8), colour).save(folder / f"{colour}.png")
    rows = [{"image": f"{c}.png", "text": f"a {c} picture"} for c in COLOURS for _ in range(4)]
    text = [{"image": None, "text": "no picture"} for _ in range(4)]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "mixed.jsonl").write_text("\n".join(map(json.dumps, [*rows, *text])))
    return folder


@pytest.fixture(scope="module")
def seeing(place: Path) -> Path:
    sets = [f"data.path={place}/mixed.jsonl", f"data.valid_path={place}/records.jsonl"]
    sets += ["data.batch.patches=4", "train.seq_len=12", "model.language.dim=16"]
    recipe = RECIPES / "llava_tiny.toml"
    with pytest.raises(RecipeError, match=f"set model.image_token = {IMAGE_TOKEN}"):
        train(load_recipe(recipe, [*TOWER, *sets]), name="wrong", root=place / "runs")
    sets += [f"model.image_token={IMAGE_TOKEN}"]
    train(load_recipe(recipe, [*TOWER, *sets]), name="llava", root=place / "runs")
    return place / "runs" / "llava"


def test_held_out_pictures_are_described(seeing: Path) -> None:
    found = measure(seeing, "captions")
    assert found.examples == 24
    assert {score.name for score in found.scores} == {"exact", "f1"}


def test_a_picture_is_shown_where_its_placeholder_stands(
    seeing: Path, place: Path, mlxt: Mlxt
) -> None:
    picture = str(place / "red.png")
    run = ("generate", "--run", str(seeing), "--max-tokens", "3", "--temp", "0")
    said = mlxt(*run, "--image", picture)
    assert said.code == 0
    assert said.out == mlxt(*run, "--image", picture, "--prompt", "<image>").out
    for options, told in [
        (("--prompt", "a <image>"), "there is no picture: --image FILE"),
        (("--prompt", "a", "--image", picture), "has <image> 0 times: write it once"),
        (("--prompt", "<image>", "--image", str(place / "no.png")), "no.png can't be read"),
        (("--image", picture, "--json"), "--json doesn't go with a picture in the prompt"),
    ]:
        refused = mlxt(*run, *options)
        assert refused.code != 0
        assert told in " ".join(refused.err.split())


def test_names_of_pictures_are_found_among_all(place: Path) -> None:
    sets = [f"data.path={place}/records.jsonl", f"data.valid_path={place}/records.jsonl"]
    sets += ["data.batch.channels=3", "model.vision.embed.channels=3", "model.text.dim=16"]
    recipe = load_recipe(RECIPES / "clip_tiny.toml", [*TOWER, *sets])
    run = train(recipe, name="clip", root=place / "runs").folder.path
    found = measure(run, "retrieval")
    values = {score.name: score.value for score in found.scores}
    assert found.examples == 24
    assert values["text_recall@10"] >= values["text_recall@5"] >= values["text_recall@1"]
    assert values["image_median_rank"] >= 1


def test_records_whose_picture_and_placeholder_disagree_are_named(place: Path) -> None:
    rows = [{"image": None, "text": "a", "ask": "<image>"}, {"image": "red.png", "text": "b"}]
    for row, told in zip(rows, ["1 times, and the record has no picture", "'ask'"], strict=True):
        (place / "odd.jsonl").write_text(json.dumps(row))
        sets = [f"data.path={place}/odd.jsonl", "data.batch.prompt_key=ask"]
        recipe = load_recipe(RECIPES / "llava_tiny.toml", [*TOWER, *sets])
        with pytest.raises(Exception, match=told):
            train(recipe, name="odd", root=place / "runs")


def test_ranks_count_what_scores_as_well() -> None:
    scores = np.array([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3], [0.4, 0.4, 0.4]])
    right = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
    assert ranks(scores, right).tolist() == [1, 2, 3]
