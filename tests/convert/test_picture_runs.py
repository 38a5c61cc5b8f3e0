"""Published models of pictures become runs."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.published import full_model_table, typed_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.convert.checkpoint import write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.families.llava import LLAVA
from mlx_transformers.convert.families.vit_mae import VIT_MAE
from mlx_transformers.convert.families.whisper import WHISPER
from mlx_transformers.convert.family import read
from mlx_transformers.convert.match import write_config
from mlx_transformers.convert.weights import to_theirs
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.objectives.mae import MaskedPatches
from mlx_transformers.verbs.import_run import import_run

CONFIG = {
    "model_type": "vit_mae",
    "architectures": ["ViTMAEForPreTraining"],
    "image_size": 8,
    "patch_size": 4,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "decoder_hidden_size": 4,
    "decoder_intermediate_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
}


@pytest.mark.parametrize("normalized", [False, True])
def test_a_masked_autoencoder_becomes_a_run(normalized: bool, tmp_path: Path) -> None:
    config = CONFIG | {"norm_pix_loss": normalized}
    table, rows = read(VIT_MAE, HfConfig(dict(config)))
    model = typed_model(table, "a test").build(256)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder, to_theirs(rows, dict(tree_flatten(model.parameters()))))
    run = import_run(folder, root=tmp_path / "runs")
    recipe = load_recipe(run.recipe)
    assert isinstance(recipe.objective, MaskedPatches)
    assert (recipe.data.batch.kind, recipe.train.seq_len) == ("images", 8 * 8 * 3)
    written = write_config(VIT_MAE, full_model_table(typed_model(table, "a test"), 256))
    assert written is not None
    assert written["norm_pix_loss"] == normalized
    loaded, _ = load(run.path)
    pixels = mx.random.randint(0, 256, (2, 8, 8, 3))
    assert mx.allclose(loaded(pixels), model(pixels), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_is_tied_where_the_whole_model_is(tied: bool) -> None:
    parts = {"vision_config": {}, "text_config": {"tie_word_embeddings": False}}
    config = {"model_type": "llava", "tie_word_embeddings": tied}
    assert LLAVA.table(HfConfig(config | parts))["language"]["head"]["tied"] is tied


def test_a_classifier_of_sounds_is_refused_by_its_class() -> None:
    config = {"model_type": "whisper", "architectures": ["WhisperForAudioClassification"]}
    with pytest.raises(ConvertError, match=r"\['WhisperForAudioClassification'\] isn't built"):
        WHISPER.table(HfConfig(config))
