"""Pictures as tokens, and one model that draws and describes them, from records to files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.data.pictures.read import read_picture
from mlx_transformers.decode.writer import TextWriter
from mlx_transformers.verbs.finetune import finetune
from mlx_transformers.verbs.tasks.measure import measure
from mlx_transformers.verbs.train import train

from .conftest import Mlxt

RECIPES = Path(__file__).parents[2] / "recipes" / "multimodal"
COLOURS = ("red", "green", "blue", "white", "black", "yellow")
SMALL = ["train.steps=2", "train.batch_size=4", "eval.batch_size=4", "data.batch.size=[8,8]"]
TOWERS = [
    f"model.{tower}.{key}"
    for tower, size in (("encoder", "[8,8]"), ("decoder", "[2,2]"))
    for key in (f"image_size={size}", "dim=16", "n_layers=1", "position.rows=2")
] + ["model.encoder.position.columns=2", "model.decoder.position.columns=2", "model.n_codes=8"]
VQVAE = [*SMALL, *TOWERS, "model.encoder.embed.size=4", "data.batch.shift=0"]
VQVAE += ["eval.every=1", "checkpoint.every=1"]
NUMBERS = "train.seq_len=192"
MIXED = ["data.batch.patches=4", "model.dim=16", "train.seq_len=12"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour with their names; text alone; and texts around a picture."""
    folder = tmp_path_factory.mktemp("drawing")
    for colour in COLOURS:
        Image.new("RGB", (16, 8), colour).save(folder / f"{colour}.png")
    rows = [{"image": f"{c}.png", "text": f"a {c} picture"} for c in COLOURS for _ in range(2)]
    others = [{"image": None, "text": "no picture"}, {"image": "red.png", "text": "a <image> red"}]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "mixed.jsonl").write_text("\n".join(map(json.dumps, [*rows, *others])))
    return folder


@pytest.fixture(scope="module")
def vqvae(place: Path) -> Path:
    sets = [f"data.path={place}/records.jsonl", f"data.valid_path={place}/records.jsonl"]
    recipe = load_recipe(RECIPES / "vqvae_tiny.toml", [*VQVAE, NUMBERS, *sets])
    return train(recipe, name="vqvae", root=place / "runs").folder.path


@pytest.fixture(scope="module")
def native(place: Path, vqvae: Path) -> Path:
    sets = [f"data.path={place}/mixed.jsonl", f"data.valid_path={place}/mixed.jsonl"]

    def started(name: str, pictures: Path, n_codes: int = 8) -> Path:
        own = [f"objective.pictures={pictures}", f"data.batch.n_codes={n_codes}"]
        recipe = load_recipe(RECIPES / "chameleon_tiny.toml", [*sets, *SMALL, *MIXED, *own])
        return train(recipe, name=name, root=place / "runs").folder.path

    with pytest.raises(RecipeError, match=r"is 8: set data\.batch\.n_codes = 8"):
        started("wide", vqvae, n_codes=9)
    run = started("native", vqvae)
    with pytest.raises(RecipeError, match="no run of a VQ-VAE"):
        started("blind", run)
    return run


def test_pictures_painted_from_their_tokens_are_measured(vqvae: Path, place: Path) -> None:
    found = {score.name: score.value for score in measure(vqvae, "reconstruction").scores}
    assert found["psnr"] == pytest.approx(-10 * np.log10(found["mse"]))
    assert 1 / 8 <= found["used_codes"] <= 1
    path = f"{place}/records.jsonl"
    sets = [f"data.path={path}", f"data.valid_path={path}", "train.seq_len=100"]
    with pytest.raises(RecipeError, match=r"set train.seq_len = 192"):
        train(load_recipe(RECIPES / "vqvae_tiny.toml", [*VQVAE, *sets]), root=place / "runs")


def test_captions_and_drawings_are_measured(native: Path) -> None:
    described = measure(native, "captions")
    assert described.examples == 13  # text alone is none
    assert {score.name for score in described.scores} == {"exact", "f1"}
    drawn = {score.name: score.value for score in measure(native, "drawings").scores}
    assert drawn["picture_recall@10"] >= drawn["picture_recall@1"]


def test_a_prompt_without_a_picture_is_drawn_to_a_new_file(
    native: Path, place: Path, tmp_path: Path, mlxt: Mlxt
) -> None:
    run, out = ("generate", "--run", str(native)), tmp_path / "out.png"
    drawn = mlxt(*run, "--prompt", "a red picture", "--image", str(out))
    assert drawn.code == 0
    assert read_picture(out).shape == (8, 8, 3)
    again = tmp_path / "again.png"
    mlxt(*run, "--prompt", "a red picture", "--image", str(again))
    assert again.read_bytes() == out.read_bytes()  # the same seed
    (tmp_path / "names.txt").write_text("a red picture\na blue picture\n")
    many = ("--prompts", str(tmp_path / "names.txt"), "--samples", "3")
    assert mlxt(*run, *many, "--image", str(tmp_path / "sheet.png")).code == 0
    assert read_picture(tmp_path / "sheet.png").shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    new = str(tmp_path / "new.png")
    for options, told in [
        (("--prompt", "a red", "--image", str(out)), "exists already. To draw, give --image"),
        (("--prompt", "a red", "--image", str(tmp_path / "x.gif")), "end the name with .png"),
        (("--prompt", "a red", "--image", str(tmp_path / "no" / "x.png")), "there is no folder"),
        (("--prompt", " ", "--image", new), "--prompt is empty"),
        (("--prompt", "a red", "--image", new, "--max-tokens", "3"), "fixed number of tokens"),
        (("--image", new), "To have"),
        (("--prompt", "a <image>"), "there is no picture: --image FILE"),
    ]:
        refused = mlxt(*run, *options)
        assert refused.code != 0
        assert told in " ".join(refused.err.split())
    assert not Path(new).exists()


def test_a_picture_is_described_and_texts_go_on(native: Path, place: Path, mlxt: Mlxt) -> None:
    run = ("generate", "--run", str(native), "--max-tokens", "3", "--temp", "0")
    picture = str(place / "red.png")
    said = mlxt(*run, "--image", picture)
    assert said.code == 0
    assert said.out == mlxt(*run, "--image", picture, "--prompt", "<image>").out
    shown = mlxt(*run, "--prompt", "a red", "--prompt", "a", "--json")
    assert [json.loads(line)["prompt"] for line in shown.out.splitlines()] == ["a red", "a"]


def test_texts_have_no_tokens_of_pictures(
    native: Path, mlxt: Mlxt, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, feed = [], TextWriter.feed

    def noted(writer: TextWriter, token: int) -> str:
        written.append(token)
        return feed(writer, token)

    monkeypatch.setattr(TextWriter, "feed", noted)
    run = ("generate", "--run", str(native), "--prompt", "a red")
    assert mlxt(*run, "--samples", "20", "--temp", "9").code == 0
    _, tokenizer = load(native)
    assert tokenizer.control("end") in written
    assert max(written) < tokenizer.control("image")
    for option in ("--no-bos", "--special-tokens"):
        assert "laid out as in training" in " ".join(mlxt(*run, option).err.split())


def test_a_run_that_goes_on_with_text_alone_draws_no_more(
    native: Path, place: Path, mlxt: Mlxt
) -> None:
    sets = [f"data.path={place}/mixed.jsonl", f"data.valid_path={place}/mixed.jsonl"]
    sets += ["objective={kind='clm'}", "data.batch={kind='rows'}", "train.steps=1"]
    sets += ["model.dim=16", "train.seq_len=12", "train.batch_size=4", "eval.batch_size=4"]
    recipe = RECIPES / "chameleon_tiny.toml"
    run = finetune(native, recipe, name="text", set=sets, root=place / "runs", say=str)
    drawn = ("generate", "--run", str(run.folder.path), "--prompt", "a red", "--max-tokens", "2")
    assert mlxt(*drawn).code == 0


def test_another_vqvae_under_the_same_name_is_noticed(
    native: Path, vqvae: Path, place: Path, mlxt: Mlxt
) -> None:
    path = f"{place}/records.jsonl"
    sets = [f"data.path={path}", f"data.valid_path={path}", "train.seed=2", NUMBERS]
    recipe = load_recipe(RECIPES / "vqvae_tiny.toml", [*VQVAE, *sets])
    other = train(recipe, name="other", root=place / "runs").folder.path
    (vqvae / "checkpoints").rename(vqvae / "old")
    (other / "checkpoints").rename(vqvae / "checkpoints")
    try:
        refused = mlxt("generate", "--run", str(native), "--image", str(place / "red.png"))
        assert "other weights of objective.pictures" in " ".join(refused.err.split())
        with pytest.raises(RunError, match=r"other weights of objective\.pictures"):
            measure(native, "captions")
    finally:
        (vqvae / "checkpoints").rename(other / "checkpoints")
        (vqvae / "old").rename(vqvae / "checkpoints")
