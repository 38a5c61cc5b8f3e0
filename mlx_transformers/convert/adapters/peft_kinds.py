"""Readers of PEFT's kinds beside LoRA: IA³, VeRA, prompts, prefixes, trained parts of the base."""

import re

import mlx.core as mx

from ...core.errors import ConvertError
from .layout import Arrays, Opened
from .peft_folder import PeftFolder, with_trained


def ia3(folder: PeftFolder) -> Opened:
    """Read IA³ (Liu et al. 2022, arXiv 2205.05638): `ia3_l` is `[out, 1]` where it scales the
    outputs of a module, `[1, in]` in `feedforward_modules`, where it scales the inputs.

    Raises:
        ConvertError: a factor belongs to no module of the base, or doesn't fit it.
    """
    weights: Arrays = {}
    outputs, inputs = set[str](), set[str]()
    rest: Arrays = {}
    experts: dict[str, dict[int, mx.array]] = {}
    layout = folder.layout
    for name, array in folder.tensors.items():
        match = re.fullmatch(r"(.+)\.ia3_l", name)
        if match is None:
            rest[name] = array
            continue
        module, flat = match[1], array.astype(mx.float32).reshape(-1)
        move = layout.move(f"{module}.weight", folder.where)
        scales_input = array.ndim == 2 and array.shape[0] == 1 and _reads_input(folder, module)
        if len(move.theirs) > 1:
            number = move.theirs.index(layout.renamed(f"{module}.weight"))
            for path in layout.layers(move):
                experts.setdefault(path, {})[number] = flat
            vectors = {}
        elif scales_input:
            vectors = dict.fromkeys(layout.layers(move), flat)
        else:
            vectors = layout.vectors(module, flat, folder.where)
        (inputs if scales_input else outputs).update(layout.layers(move))
        weights |= {f"{path}.adapter.factor": vector for path, vector in vectors.items()}
    for path, factors in experts.items():
        ones = mx.ones_like(next(iter(factors.values())))
        count = layout.shapes[f"{path}.weight"][0]
        stack = mx.stack([factors.get(number, ones) for number in range(count)])
        weights[f"{path}.adapter.factor"] = stack
    table = {"kind": "ia3", "targets": sorted(outputs), "inputs": sorted(inputs)}
    return with_trained(folder, table, weights, rest)


def _reads_input(folder: PeftFolder, module: str) -> bool:
    """Whether PEFT scales the input of a module: one of `feedforward_modules`."""
    patterns = folder.config.get("feedforward_modules") or []
    if isinstance(patterns, str):
        return re.fullmatch(patterns, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in patterns)


def trained_parts(folder: PeftFolder) -> Opened:
    """Read norms `[D]` (LN tuning) or rows `[n, D]` of the embedding (trainable tokens).

    Raises:
        ConvertError: a tensor belongs to no weight of the base, or all of them equal the base's.
    """
    opened = with_trained(folder, {"kind": "full", "train": []}, {}, dict(folder.tensors))
    if not opened.weights:
        raise ConvertError(
            f"{folder.where}: the adapter holds the numbers of the base; there is nothing to "
            "import. Import the base alone, or train the adapter."
        )
    return opened


def vera(folder: PeftFolder) -> Opened:
    """Read VeRA (Kopiczko et al. 2023, arXiv 2310.11454): vectors d `[R]` and b `[out]` of each
    module, and projections A `[R, in]` and B `[out, R]` of the widest module, of which others
    use the first columns and rows.

    Raises:
        ConvertError: the projections weren't saved, or a module packs several of our layers.
    """
    a, b = (folder.tensors.get(f"base_model.vera_{x}") for x in "AB")
    if a is None or b is None:
        raise ConvertError(
            f"{folder.where}: the projections vera_A and vera_B are not in the file, and torch "
            "alone draws the same ones from projection_prng_key. Save it with save_projection=True."
        )
    weights: Arrays = {}
    rest: Arrays = {}
    targets = []
    for name, array in folder.tensors.items():
        match = re.fullmatch(r"(.+)\.vera_lambda_([bd])", name)
        if name.startswith("base_model.vera_"):
            continue
        if match is None:
            rest[name] = array
            continue
        move = folder.layout.move(f"{match[1]}.weight", folder.where)
        paths = folder.layout.layers(move)
        if len(paths) > 1 or len(move.theirs) > 1:
            raise ConvertError(
                f"{folder.where}: VeRA of the packed layer {match[1]} isn't built. Merge the "
                "adapter in PEFT, and import the result."
            )
        weights[f"{paths[0]}.adapter.{match[2]}"] = array.astype(mx.float32)
        targets.append(paths[0])
    shapes = [folder.layout.shapes[f"{path}.weight"] for path in set(targets)]
    out, width = (max(shape[i] for shape in shapes) for i in (0, 1))
    shared = {"a": a[:, :width], "b": b[:out]}
    weights |= {f"adaptation.shared.{n}": x.astype(mx.float32) for n, x in shared.items()}
    table = {
        "kind": "vera",
        "rank": a.shape[0],
        "targets": sorted(set(targets)),
        "dropout": float(folder.config.get("vera_dropout") or 0.0),
    }
    return with_trained(folder, table, weights, rest)


def prompt(folder: PeftFolder) -> Opened:
    """Read a soft prompt (prompt tuning: Lester et al. 2021, arXiv 2104.08691; P-tuning: Liu et al.
    2021, arXiv 2103.10385): `prompt_embeddings [num_virtual_tokens, D]`.

    Raises:
        ConvertError: another tensor belongs to no weight of the base.
    """
    # Beside a prompt, PEFT names the modules that it trained after the whole model.
    rest = {name.removeprefix("base_model."): array for name, array in folder.tensors.items()}
    vectors = rest.pop("prompt_embeddings").astype(mx.float32) / folder.layout.embed_scale
    n = int(folder.config["num_virtual_tokens"])
    path = "encoder.embed" if "decoder.embed.table.weight" in folder.layout.shapes else "embed"
    weights = {f"{path}.prompt.vectors": vectors[:n]}
    return with_trained(folder, {"kind": "prompt", "length": n}, weights, rest)


def prefix(folder: PeftFolder) -> Opened:
    """Read a prefix (Li and Liang 2021, arXiv 2101.00190): `prompt_embeddings [n, 2 L H head_dim]`,
    of each of L layers the keys, then the values, of H heads.

    Raises:
        ConvertError: the base isn't one stack of attention layers, or the numbers don't fill it.
    """
    rest = {name.removeprefix("base_model."): array for name, array in folder.tensors.items()}
    stored = rest.pop("prompt_embeddings").astype(mx.float32)
    paths = [
        name.removesuffix(".k.weight")
        for name in folder.layout.shapes
        if re.fullmatch(r"stack\.blocks\.\d+\.mixer\.k\.weight", name)
    ]
    paths.sort(key=lambda path: int(path.split(".")[2]))
    if not paths:
        raise ConvertError(
            f"{folder.where}: a prefix is read for models that are one stack of attention layers, "
            "and this base is another: an encoder-decoder, say. It isn't built."
        )
    n, heads = len(stored), int(folder.config["num_attention_heads"])
    if stored.shape[1] % (2 * len(paths) * heads):
        raise ConvertError(
            f"{folder.where}: prompt_embeddings {list(stored.shape)} don't hold keys and values of "
            f"{heads} heads in {len(paths)} layers of attention."
        )
    both = stored.reshape(n, 2 * len(paths), heads, -1).transpose(1, 2, 0, 3)
    weights = {
        f"{path}.prefix.{name}": both[2 * i + j]
        for i, path in enumerate(paths)
        for j, name in enumerate("kv")
    }
    return with_trained(folder, {"kind": "prefix", "length": n}, weights, rest)
