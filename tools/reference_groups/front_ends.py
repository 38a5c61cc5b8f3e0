"""Group 12: what pictures and sound go through before the first layer, and contrastive losses."""

import re

import mlx.core as mx
import numpy as np
from reference_ops.multimodal_rope import multimodal_positions, section_angles

from mlx_transformers.data.pictures.preprocess import Preprocess
from mlx_transformers.data.pictures.resize import resize, resize_float
from mlx_transformers.data.sound.log_mel import RATE, log_mel, mel_filters
from mlx_transformers.ops.contrastive import clip_losses, pair_logits, siglip_losses
from mlx_transformers.ops.patches import patches
from mlx_transformers.ops.resample import resampling_matrix
from mlx_transformers.ops.rotary import rotate_by
from mlx_transformers.ops.rotary_grid import grid_angles
from reference_groups.case import Arrays, Case, Rule


def contrastive(case: Case) -> Arrays:
    """Logits of all pairs, and the mean loss of the batch."""
    bias = case.params.get("bias")
    logits = pair_logits(case.inputs["image"], case.inputs["text"], case.params["log_scale"], bias)
    losses = siglip_losses if re.search("siglip", case.function, re.IGNORECASE) else clip_losses
    return {"logits_per_image": logits, "contrastive_loss": losses(logits).mean().reshape(1)}


def preprocess(case: Case) -> Arrays:
    """The picture at its new sizes, and the pixel values of the whole path."""
    options = case.options
    picture = np.array(case.inputs["image"])
    crop = options.get("crop")
    kind = options.get("resample", options.get("interpolation", "bicubic"))
    size = options.get("size")
    prepare = Preprocess(
        short=options.get("short"),
        size=_both(size) if size is not None else None,
        crop=None if crop is None else _both(crop),
        resample=kind,
        scale=options.get("rescale_factor", 1 / 255),
        mean=tuple(options.get("mean", ())),
        std=tuple(options.get("std", ())),
    )
    resized = prepare.resized(picture)
    height, width = resized.shape[:2]
    outputs = {"resized": resized, "pixel_values": prepare(picture).transpose(2, 0, 1)}
    for name in case.names("resized_bilinear", "resized_torch", "resized_torch_no_antialias"):
        found = re.fullmatch(r"resized_(?!torch)(\w+)", name)
        if found:
            outputs[name] = resize(picture, height, width, found[1])
        found = re.fullmatch(r"resized_torch(_bilinear|_bicubic)?(_no_antialias)?", name)
        if found:
            filtered = found[1][1:] if found[1] else kind
            # torch has no Lanczos filter
            filtered = filtered if filtered in ("bilinear", "bicubic") else "bicubic"
            outputs[name] = resize_float(
                picture, height, width, filtered, antialias=found[2] is None
            )
    return {name: mx.array(array) for name, array in outputs.items()}


def _both(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def patch_embedding(case: Case) -> Arrays:
    """Projected patches; pictures and kernels arrive with their channels before rows."""
    pixels = case.inputs["pixel_values"].transpose(0, 2, 3, 1)
    kernel = case.params["weight"].transpose(0, 2, 3, 1)
    D, size = kernel.shape[:2]
    out = patches(pixels, size) @ kernel.reshape(D, -1).T
    return {"out": out + case.params["bias"] if "bias" in case.params else out}


def rotary_grid(case: Case) -> Arrays:
    """Queries and keys rotated by row and column."""
    options = case.options
    alternate = "pixtral" in case.function.lower()
    angles = grid_angles(
        case.inputs["positions"], options["head_dim"], options["theta"], alternate=alternate
    )
    twice = mx.concatenate([angles, angles], axis=-1)
    return {"cos": mx.cos(twice), "sin": mx.sin(twice), **_rotated(case, angles)}


def rotary_sections(case: Case) -> Arrays:
    """Queries and keys rotated by time, row and column."""
    options = case.options
    interleaved = bool(options.get("interleaved")) or "qwen3" in case.function.lower()
    angles = section_angles(
        case.inputs["positions"], options["sections"], options["theta"], interleaved=interleaved
    )
    return _rotated(case, angles)


def _rotated(case: Case, angles: mx.array) -> Arrays:
    return {f"{name}_rot": rotate_by(case.inputs[name], angles) for name in "qk"}


def rotary_index(case: Case) -> Arrays:
    """Coordinates of text, pictures and films."""
    options = case.options
    inputs = {name: np.array(array) for name, array in case.inputs.items()}
    tokens = inputs["input_ids"]
    kinds = inputs.get("mm_token_type_ids")
    if kinds is None:
        film = tokens == options.get("video_token_id", -1)
        kinds = np.where(film, 2, (tokens == options.get("image_token_id", -1)).astype(int))
    grids = [
        [tuple(grid) for grid in inputs.get(name, np.zeros((0, 3), int)).tolist()]
        for name in ("image_grid_thw", "video_grid_thw")
    ]
    if "qwen3" in case.function.lower():
        # its frames stand alone, between the tokens of their times
        grids[1] = [(1, *sides) for frames, *sides in grids[1] for _ in range(frames)]
    source = case.meta["source"]
    recent = "transformers" in source.get("package", "") and str(source["version"])[:2] == "5."
    seconds = inputs.get("second_per_grid_ts", np.array(options.get("second_per_grid_ts", ())))
    pace = [float(each) * options.get("tokens_per_second", 1.0) for each in seconds.ravel()]
    places, deltas = multimodal_positions(
        kinds,
        grids,
        valid=inputs.get("attention_mask"),
        merge=options["spatial_merge_size"],
        pace=pace,
        resume="sides" if recent else "largest",
    )
    return {"position_ids": mx.array(places), "rope_deltas": mx.array(deltas)}


def interpolated_positions(case: Case) -> Arrays:
    """A table of positions of a square grid, resized for pictures of another shape."""
    options, table = case.options, case.params["position_embeddings"][0]
    grid, patch = options["grid"], options["patch"]
    sizes = options["height"] // patch, options["width"] // patch
    kind, before = options.get("interpolation", "bicubic"), len(table) - grid**2
    found = {}
    for name in case.names("out", "out_dinov2_offset", "out_antialias"):
        if sizes == (grid, grid):
            found[name] = table[None]
            continue
        antialias, offset = "antialias" in name, 0.1 if "offset" in name else 0.0
        rows, columns = (
            mx.array(
                resampling_matrix(
                    grid, n, kind, antialias=antialias, scale=grid / (n + offset)
                ).astype(np.float32)
            )
            for n in sizes
        )
        cells = table[before:].reshape(grid, grid, -1)
        cells = (rows @ cells.reshape(grid, -1)).reshape(sizes[0], grid, -1)
        cells = (columns @ cells).reshape(sizes[0] * sizes[1], -1)
        found[name] = mx.concatenate([table[:before], cells])[None]
    return found


def whisper(case: Case) -> Arrays:
    """Mel filters, and the features of the clip alone and padded to some seconds: of these as many
    frames as the case says that the array has, or all."""
    n_mels = case.options["n_mels"]
    samples = np.array(case.inputs["waveform"])
    outputs = {"mel_filters": mel_filters(n_mels), "features": log_mel(samples, n_mels).T}
    for name in case.names("features_30s_first"):
        found = re.fullmatch(r"features_(\d+)s_first", name)
        if found:
            padded = log_mel(samples, n_mels, length=int(found[1]) * RATE)
            cut = re.search(r"first (\d+) frames", case.meta.get("about", {}).get(name, ""))
            outputs[name] = (padded[: int(cut[1])] if cut else padded).T
    return {name: mx.array(array.astype(np.float32)) for name, array in outputs.items()}


RULES = (
    Rule("ClipLoss|SigLipLoss|contrastive loss", contrastive),
    Rule("preprocessing", preprocess),
    Rule("interpolate_pos_encoding", interpolated_positions),
    Rule("PatchEmbed", patch_embedding),
    Rule("get_rope_index|position indices", rotary_index),
    Rule("M-RoPE|multimodal rotary", rotary_sections),
    Rule("2-D rotary", rotary_grid),
    Rule("WhisperFeatureExtractor|log-mel", whisper),
)
