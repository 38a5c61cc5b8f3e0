"""Bytes by part: exact where they can be counted, near where they are measured."""

import gc
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.job import job
from mlx_transformers.assembly.model import draft_model
from mlx_transformers.core.footprint import ActivationShape
from mlx_transformers.layers.frames import Frames
from mlx_transformers.layers.mixers.attention import Attention, SoftmaxHeads
from mlx_transformers.layers.mixers.mamba import Mamba
from mlx_transformers.layers.mixers.shared_block import SharedBlock
from mlx_transformers.layers.mixers.side_by_side import SideBySide
from mlx_transformers.layers.norms import RmsNorm
from mlx_transformers.memory.account import CPU_QUEUE, NO_TEACHER, account
from mlx_transformers.ops.device import on_cpu

from .planned import job_of, measured, planned, recipe, shipped

BFLOAT16 = "train.dtype=bfloat16"


def test_convolutions_over_frames_count_the_windows_that_the_cpu_copies() -> None:
    at = ActivationShape(batch=2, length=10)  # of two frames a position
    first, second = 2 * (5 + 8), 8  # 5 features in, 8 out
    frames = Frames(n_mels=5, kernel=3, strides=[1, 2])
    assert frames.saved_bytes(8, at) == 4 * (first + 3 * 8 + second)
    assert frames.saved_bytes(8, replace(at, cpu=False)) == 4 * (first + 2 * 8 + second)


def test_the_parts_add_up_to_the_peak() -> None:
    found = planned()
    assert sum(found.parts.values()) == pytest.approx(found.peak)
    assert found.peak == max(found.phases.values())


def test_weights_are_those_of_the_real_model() -> None:
    model = recipe("mixtral_tiny").model.build(512)
    mx.eval(model.parameters())
    real = sum(leaf.nbytes for _, leaf in tree_flatten(model.parameters()))
    assert planned("mixtral_tiny").held["weights"] == real


@pytest.mark.parametrize(
    ("optim", "per_weight"),
    [
        ("{kind='adamw',learning_rate=1e-3,weight_decay=0.1}", 2.0),
        ("{kind='adam',learning_rate=1e-3}", 2.0),
        ("{kind='adam',learning_rate=1e-3,state='bfloat16'}", 1.0),
        ("{kind='adam',learning_rate=1e-3,state='int8'}", 0.51),
        ("{kind='lion',learning_rate=1e-3}", 1.0),
        ("{kind='sgd',learning_rate=1e-3,momentum=0.9}", 1.0),
        ("{kind='adafactor'}", 0.02),
    ],
)
def test_moments_are_counted_by_asking_the_optimizer(optim: str, per_weight: float) -> None:
    held = planned("llama_tiny", f"optim={optim}").held
    assert held["optimizer"] / held["weights"] == pytest.approx(per_weight, abs=0.01)


def test_scores_of_movement_pruning_are_counted_with_the_moments() -> None:
    plain, scored = planned(), planned("compression/movement_tiny")
    model = recipe("llama_tiny").model
    weights = model.n_layers * (4 * 128 * 128 + 3 * 128 * model.block.ffn.hidden_dim)
    more = scored.held["optimizer"] - plain.held["optimizer"]
    assert more == pytest.approx(17 * weights, rel=1e-4)  # four floats and a byte per weight


def test_an_optimizer_that_is_shared_out_counts_its_largest_share() -> None:
    loaded = recipe("llama_tiny", "train.shard_optimizer=true")
    alone, shared = (
        account(job(loaded, draft_model(loaded), True, ranks)).held["optimizer"] for ranks in (1, 2)
    )
    assert 0.5 <= shared / alone < 0.55


def test_a_process_that_shares_layers_keeps_its_heads_and_the_whole_stream() -> None:
    loaded, name = recipe("llama_tiny"), "activations of blocks"
    jobs = [job(loaded, draft_model(loaded), True, tensor_parallel=n) for n in (1, 2)]
    whole, part = (account(each).saved[name] for each in jobs)
    sizes = job_of()
    n_layers, dim = len(loaded.model.layers()), loaded.model.dim
    tokens = n_layers * sizes.at.tokens
    stream = 2 * dim * sizes.at.itemsize  # the input of each of two norms
    assert part - stream * tokens == pytest.approx((whole - stream * tokens) / 2)


def test_planning_computes_nothing() -> None:
    gc.collect()
    before = mx.get_active_memory()
    job = job_of(
        "llama_tiny", "model.dim=4096", "model.n_layers=32", "model.block.mixer.n_heads=32"
    )
    assert sum(leaf.nbytes for _, leaf in tree_flatten(job.model.parameters())) > 2**30
    assert mx.get_active_memory() - before < 2**20


def test_a_window_keeps_all_scores_in_short_rows_on_the_gpu_alone() -> None:
    mixer = recipe("llama_tiny").model.block.mixer
    narrow = mixer.model_copy(update={"window": 64})
    for length, cpu in ((1024, True), (1024, False), (256, True)):
        at = ActivationShape(1, length, cpu=cpu)
        assert narrow.saved_bytes(128, at) <= mixer.saved_bytes(128, at)
    short, scores = ActivationShape(1, 256, cpu=False), 256 * mixer.n_heads * 4
    assert narrow.saved_bytes(128, short) - mixer.saved_bytes(128, short) > scores


def test_positions_that_add_to_scores_keep_a_bias_by_distance_in_the_layers_they_serve() -> None:
    plain, own = planned(), planned("llama_tiny", "model.block.position={kind='alibi'}")
    distances = 2 * 128 * 4 * 4  # of a layer: distances, heads, bytes
    scores = 2 * 4 * 128 * 128 * 4 * 4  # layers, rows, T, S, heads, bytes
    for found in (own, planned("positions/alibi_tiny")):
        more = sum(found.saved.values()) - sum(plain.saved.values())
        assert distances <= more < scores / 8
    assert planned("positions/xpos_tiny").saved == plain.saved


def test_a_decoder_is_counted_by_its_own_rows_and_an_encoder_by_the_source() -> None:
    """Corrupted spans: the target is a quarter as long as the source."""
    job = shipped("encoder_decoder/t5_tiny", "model.encoder.n_layers=1", "model.decoder.n_layers=3")
    encoder, *decoder = job.layers()
    assert encoder.at.length == 128
    assert {each.at.length for each in decoder} == {job.columns.target}
    assert {each.at.memory for each in decoder} == {128}
    assert job.columns.target < 40


def test_cross_attention_keeps_the_keys_and_values_of_what_it_reads() -> None:
    cross = shipped("encoder_decoder/bart_tiny").config.decoder.block.cross
    near, far = (cross.saved_bytes(128, ActivationShape(1, 32, memory=m)) for m in (32, 96))
    assert far - near == pytest.approx(2 * 128 * 4 * (96 - 32) / 32)


def test_the_smaller_of_two_encoders_keeps_what_its_own_width_does() -> None:
    layers = list(shipped("encoders/electra_tiny").layers())
    assert {each.dim for each in layers} == {64, 128}


def test_only_words_that_are_told_have_logits() -> None:
    sets = ("encoders/roberta_tiny", "model.vocab_size=16384")
    job, more = shipped(*sets), shipped(*sets, "data.batch.masking.share=0.5")
    assert (job.columns.n_predicted, more.columns.n_predicted) == (round(126 * 0.15), 63)
    assert account(job).phases["loss"] < account(more).phases["loss"]


def test_layers_that_share_weights_wait_for_the_lowest() -> None:
    """Their gradient is one sum, so nothing that it is made of is let go before."""
    apart = planned("encoders/roberta_tiny", "model.n_layers=4")
    shared = planned("encoders/roberta_tiny", "model.n_layers=4", "model.n_distinct=1")
    assert shared.held["weights"] < apart.held["weights"]
    assert shared.phase == "backward of block 0"
    assert shared.saved == apart.saved


def test_a_teacher_is_counted_by_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    teaching = ("gpt2_tiny", "objective={kind='distill',teacher='wise'}")
    assert account(shipped(*teaching)).notes == [NO_TEACHER]
    saved = tmp_path / "runs/wise/checkpoints/step-000001"
    saved.mkdir(parents=True)
    (tmp_path / "runs/wise/recipe.toml").touch()
    (saved / "model.safetensors").write_bytes(bytes(4096))
    (saved.parent / "last").write_text("step-000001")
    found = account(shipped(*teaching))
    assert found.held["teacher"] == 4096
    assert not found.notes


def test_recurrent_layers_say_what_they_keep_too() -> None:
    for name in ("recurrent/lstm_lm_tiny", "seq2seq/bahdanau_tiny"):
        found = account(shipped(name))
        assert not found.notes
        assert found.saved["activations of blocks"] > 0


def test_half_precision_halves_what_is_not_scores() -> None:
    ffn = recipe("llama_tiny").model.block.ffn
    assert (
        ffn.saved_bytes(128, ActivationShape(1, 128, itemsize=2))
        == ffn.saved_bytes(128, ActivationShape(1, 128, itemsize=4)) / 2
    )


def test_more_rows_and_less_recomputation_take_more() -> None:
    few, many = planned("llama_tiny", "train.batch_size=2"), planned()
    again = planned("llama_tiny", "train.recompute=all")
    assert few.peak < many.peak
    assert sum(again.saved.values()) < sum(many.saved.values())
    assert again.peak < many.peak


def test_accumulation_keeps_one_sum_of_gradients() -> None:
    once, twice = planned(), planned("llama_tiny", "train.accumulate=2")
    assert "accumulated gradients" not in once.held
    assert twice.held["accumulated gradients"] == once.held["weights"]
    assert twice.saved == once.saved


def test_each_further_stream_has_a_gradient_of_the_head_during_the_loss() -> None:
    """And its share of a chunk; rows that don't divide into as many parts have one stream."""
    job = replace(job_of(), batch_size=8, chunk=64)
    one, two, three, four = (account(replace(job, streams=n)) for n in (1, 2, 3, 4))
    same_share = account(replace(job, streams=4, chunk=128))
    head = job.vocab_size * job.dim * 4
    assert same_share.phases["loss"] - two.phases["loss"] == pytest.approx(2 * head)
    assert four.phases["loss"] < same_share.phases["loss"]
    assert two.phases["backward of block 0"] < one.phases["backward of block 0"]
    assert three.phases == one.phases


def test_a_frozen_head_has_no_gradient_in_any_stream() -> None:
    job = replace(job_of("llama_tiny", "train.batch_size=8"), chunk=64)
    trained = account(job).phases["loss"]
    job.model.embed.freeze()
    two, four = (account(replace(job, streams=n, chunk=16 * n)) for n in (2, 4))
    assert two.phases["loss"] == four.phases["loss"]
    assert account(job).phases["loss"] < trained - job.vocab_size * job.dim * 4


def test_a_fault_of_a_kind_is_not_hidden_by_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(self: SoftmaxHeads, dim: int, at: ActivationShape) -> float:
        return self.no_such_field  # type: ignore[attr-defined,no-any-return]

    monkeypatch.setattr(SoftmaxHeads, "saved_bytes", faulty)
    with pytest.raises(AttributeError, match="no_such_field"):
        planned()


@pytest.mark.skipif(not on_cpu(), reason="the constants are the CPU's")
@pytest.mark.compiled
@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("train.recompute=all",),
        ("train.accumulate=2",),
        ("model.block.mixer.window=32",),
        ("model.position={kind='alibi'}",),
    ],
    ids=["plain", "recomputed", "accumulated", "window", "biased"],
)
def test_the_plan_is_near_the_measured_peak(sets: tuple[str, ...]) -> None:
    peak = measured("llama_tiny", *sets)
    # Less is measured where the evaluation hardly runs ahead, as on a busy machine.
    assert 0.85 * peak < planned("llama_tiny", *sets).peak < 1.25 * peak


@pytest.mark.parametrize("recompute", ["none", "all"])
def test_a_backward_that_computes_states_again_needs_room_for_them(recompute: str) -> None:
    sets = ("model.n_layers=2", "train.batch_size=4", f"train.recompute='{recompute}'")
    few, many = (
        account(shipped("state_space/mamba_tiny", *sets, f"model.block.mixer.state_dim={n}"))
        for n in (32, 64)
    )
    last = "backward of block 1"
    states = 4 * 256 * 2 * 128 * 32 * 4  # rows, tokens, twice the width, states, bytes
    assert many.phases[last] - few.phases[last] == pytest.approx(
        CPU_QUEUE.backward.states * states, rel=0.1
    )


def test_states_of_a_mixer_inside_another_are_those_of_the_block() -> None:
    mamba = Mamba(state_dim=8)
    at = ActivationShape(4, 4, 2)
    states = mamba.backward_bytes(16, at)
    beside = SideBySide(first=Attention(n_heads=2), second=mamba)
    assert states > 0
    assert beside.backward_bytes(16, at) == states
    attention = Attention(n_heads=2)
    shared = SharedBlock(attention=attention, hidden_dim=8, norm=RmsNorm(), mixer=mamba)
    assert shared.backward_bytes(16, at) == states


def test_relations_of_attention_count_their_scores() -> None:
    rows, heads, length = 4, 4, 128
    sets = ("train.batch_size=4", "objective.relations={of=['values']}")
    one = shipped("encoders/minilm_tiny", *sets)
    assert one.relation_bytes == rows * heads * length**2 * 4
    assert shipped("encoders/minilm_tiny", sets[0]).relation_bytes == 2 * one.relation_bytes
    apart = "objective.relations={of=['values'], heads=2}"
    assert shipped("encoders/minilm_tiny", sets[0], apart).relation_bytes == one.relation_bytes / 2
    phases = account(one).phases, account(replace(one, relation_bytes=0.0)).phases
    added = CPU_QUEUE.loss.related * one.relation_bytes
    assert phases[0]["loss"] - phases[1]["loss"] == pytest.approx(added)
    both = shipped("encoders/minilm_tiny", sets[0], "objective.relations={heads=2}")
    assert both.relation_bytes == one.relation_bytes * 3 / 2  # attention has its own heads
