"""Compare runs with llama.cpp on the GGUF files that are written of them.

    python tools/peer_llama_cpp.py FILE.gguf --run RUN [--text TEXT ...]
    python tools/peer_llama_cpp.py mistral_tiny gpt2_tiny ... --out DIR [--steps N]
    python tools/peer_llama_cpp.py drawn/llama drawn/gemma3_text ... --out DIR [--quantize q8_0]
    python tools/peer_llama_cpp.py FILE.gguf --requantize Q4_K_M,Q6_K --out DIR

Runs where mlxt and llama-cpp-python are installed. A file is compared with the run that it was
written of. A recipe is trained for a few steps and exported, `drawn/FAMILY` is a small model with
drawn weights (llama_cpp_models.py; `drawn` is all of them). `--requantize` lets llama.cpp's own
quantizer write the file anew and decode it again: the import of the former has to have the tensors
of the latter, bit for bit, and is compared with it.

Printed for each: whether the tokens of the texts are equal, the largest difference of the log
probabilities (nats) over the first tokens of the texts, and whether greedy tokens are equal.
llama.cpp computes with a float32 cache and without its fused attention; `--half` leaves both as
they come, in float16. Each file is opened in a process of its own, since llama.cpp ends the process
on a file that it refuses.
"""

import argparse
import ctypes
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import mlx_transformers  # noqa: F401  (chooses the backend before MLX loads)

# isort: split
import llama_cpp
import mlx.core as mx
import numpy as np
from llama_cpp_models import DRAWN, draw

from mlx_transformers.assembly.saved import load
from mlx_transformers.cli.entry import main as cli
from mlx_transformers.convert.gguf_file import read_file
from mlx_transformers.core.errors import MlxtError
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.import_run import import_run

TEXTS = (
    "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind",
    "  two spaces, a\ttab\n\n\nand  three lines   ",
    "It's 1234567 o'clock; they'll say I'VE 3.14 — naïve café, Straße №42",
    "def f(x):\n    return {'a': [1, 2], \"b\": x ** 2}  # done!\r\n",
    "日本語 текст עברית العربية 한국어 🙂👩‍👩‍👧 e\u0301 \u00a0 \ufeff",
    "<s></s><|endoftext|> <unk> [MASK] <0x41>",
    "\n",
    " x",
)
LONGEST = 96
"""Tokens of a text whose log probabilities are compared."""
GREEDY = 32
"""Tokens that are generated."""
FATAL = re.compile("[Ee]rror|ASSERT|what\\(\\)")
"""Lines of a log that say why a process ended."""
F32 = 0
"""ggml's number of the type float32."""
FTYPES = {
    "F32": 0,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
}
FTYPES |= {"Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "F16": 1, "BF16": 32, "Q2_K": 10, "Q3_K_M": 12}
"""llama.cpp's numbers of file types (`llama.h`, `enum llama_ftype`)."""


class LlamaCpp:
    """A file as llama.cpp opens it.

    Raises:
        RuntimeError: it refuses the file; its log has been printed to stderr.
    """

    def __init__(self, path: Path, half: bool = False) -> None:
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError("llama.cpp doesn't load it")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = LONGEST + GREEDY
        context.n_batch = context.n_ubatch = context.n_ctx
        context.n_threads = context.n_threads_batch = 1
        if not half:
            context.type_k = context.type_v = F32
            context.flash_attn_type = 0
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context for it")

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, with those that the file puts before every text."""
        content = text.encode()
        room = len(content) + 16
        tokens = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(self.vocab, content, len(content), tokens, room, True, False)
        return list(tokens[:n])

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens, piece by piece."""
        room, found = 256, b""
        for token in tokens:
            buffer = ctypes.create_string_buffer(room)
            n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, room, 0, False)
            found += buffer.raw[: max(n, 0)]
        return found

    def ends(self) -> set[int]:
        """Return the tokens at which llama.cpp stops."""
        return {i for i in range(self.size) if llama_cpp.llama_vocab_is_eog(self.vocab, i)}

    def logits(self, tokens: Sequence[int], fresh: bool = True) -> np.ndarray:
        """Return the logits behind each token `[T, V]`; without `fresh` behind those before."""
        if fresh:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
            self.at = 0
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, self.at + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, True
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode gives {status}")
        self.at += len(tokens)
        found = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(found, (len(tokens), self.size)).copy()

    def greedy(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return the most probable tokens that follow, one by one."""
        found, new = [], list(tokens)
        for i in range(count):
            new = [int(self.logits(new, fresh=i == 0)[-1].argmax())]
            found += new
        return found


def greedy(model: Any, tokens: Sequence[int], count: int) -> tuple[list[int], list[float]]:
    """Return mlxt's most probable tokens, and by how much each led the next (nats)."""
    found, leads = list(tokens), []
    for _ in range(count):
        last = np.array(model(mx.array([found]))[0, -1].astype(mx.float32))
        best = np.sort(last)[-2:]
        leads.append(float(best[1] - best[0]))
        found.append(int(last.argmax()))
    return found[len(tokens) :], leads


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def compared(path: Path, run: Path, texts: Sequence[str], half: bool) -> dict[str, Any]:
    """Return the differences of a file in llama.cpp and a run."""
    theirs = LlamaCpp(path, half)
    model, tokenizer = load(run)
    found: dict[str, Any] = {"texts": 0, "unlike": [], "unwritable": 0, "difference": 0.0}
    rows, skip = [], tokenizer.kind == "numbers"
    for text in () if skip else texts:
        try:
            own = [*tokenizer.prefix, *tokenizer.encode(text)]
        except MlxtError:  # a character that the vocabulary lacks
            found["unwritable"] += 1
            continue
        given = theirs.encode(text)
        found["texts"] += 1
        if own != given:
            found["unlike"].append([text, own, given])
        if theirs.decode(own) != tokenizer.decode(own).encode() and own == given:
            found.setdefault("spelled", []).append(
                [text, theirs.decode(own).decode("utf-8", "replace")]
            )
        rows.append(own)
    rows = [row[:LONGEST] for row in rows if row] or [
        np.random.default_rng(0).integers(0, theirs.size, LONGEST).tolist()
    ]
    longest = min(LONGEST, model.max_seq_len)
    for row in rows:
        row = row[:longest]
        ours = np.array(model(mx.array([row]))[0].astype(mx.float32))
        other = theirs.logits(row)
        if other.shape != ours.shape:
            raise RuntimeError(f"logits of the shape {other.shape}, and ours are {ours.shape}")
        difference = np.abs(log_softmax(ours) - log_softmax(other)).max()
        found["difference"] = max(found["difference"], float(difference))
        found["spread"] = max(found.get("spread", 0.0), float(ours.std()))
    prompt = max(rows, key=len)[: longest // 2]
    count = min(GREEDY, longest - len(prompt))
    ours, leads = greedy(model, prompt, count)
    other = theirs.greedy(prompt, count)
    same = next((i for i in range(count) if ours[i] != other[i]), count)
    found |= {"greedy": same, "of": count, "lead": leads[same] if same < count else None}
    found |= {"ends": sorted(theirs.ends()), "our_ends": sorted(tokenizer.end_ids)}
    return found


def row(name: str, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    if "error" in found:
        return f"| {name} | {found['error']} | | | |"
    equal = f"{found['texts'] - len(found['unlike'])} of {found['texts']}"
    equal += f" ({found['unwritable']} unwritable)" if found["unwritable"] else ""
    same = f"{found['greedy']} of {found['of']}"
    same += f" (lead {found['lead']:.1e})" if found["lead"] is not None else ""
    ends = "" if found["ends"] == found["our_ends"] else f"{found['our_ends']} -> {found['ends']}"
    return f"| {name} | {equal} | {found['difference']:.1e} | {same} | {ends} |"


def apart(work: Callable[[], dict[str, Any]], log: Path) -> dict[str, Any]:
    """Return what `work` does in a process of its own, or the error that ended it.

    The parent never computes, so that a fork is safe and spares the imports.
    """
    read, write = os.pipe()
    if not (child := os.fork()):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        try:
            found = work()
        except (MlxtError, RuntimeError, SystemExit) as error:
            found = {"error": str(error)[:300]}
        with os.fdopen(write, "w") as pipe:
            json.dump(found, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = [line for line in log.read_text(errors="replace").splitlines() if FATAL.search(line)]
    heard = " / ".join(line.strip()[:160] for line in lines[:3])
    found: dict[str, Any] = json.loads(told) if told else {"error": f"it ended with {status}"}
    return found | {"error": f"{found['error']}: {heard}"} if "error" in found and heard else found


def trained(recipe: str, options: argparse.Namespace) -> Path:
    """Train a recipe for a few steps where it isn't yet, and return its run."""
    runs = options.out / "runs"
    if not (runs / recipe / "checkpoints").exists():
        sys.argv = ["mlxt", "train", recipe, "--steps", str(options.steps), "--name", recipe]
        sys.argv += ["--runs", str(runs), *options.set]
        try:
            cli()
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"training ended with {ended.code}") from ended
    return runs / recipe


def made(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Make a model, write its file, and return what `compared` says of it."""
    family = name.removeprefix("drawn/")
    run = draw(family, options.out) if family != name else trained(name, options)
    path = options.out / f"{name.replace('/', '-')}.{options.quantize or 'f32'}.gguf"
    path.unlink(missing_ok=True)
    how = {"quantize": options.quantize, "gelu_tanh": True, "context": options.context}
    export_run(run, "gguf", path, **how, anyway=bool(options.quantize))
    if options.quantize:
        run = imported(path, options.out)
    return compared(path, run, options.text or TEXTS, options.half)


def table(options: argparse.Namespace) -> None:
    """Print a line for each model."""
    models = [f"drawn/{name}" for name in DRAWN] if options.models == ["drawn"] else options.models
    details = {}
    for name in models:
        log = options.out / f"{name.replace('/', '-')}.log"
        details[name] = apart(partial(made, name, options), log)
        print(row(name, details[name]), flush=True)
        (options.out / "details.json").write_text(json.dumps(details, indent=1))


def imported(path: Path, out: Path) -> Path:
    """Return the run of a file, made anew."""
    name = path.name.removesuffix(".gguf")
    shutil.rmtree(out / "runs" / name, ignore_errors=True)
    return import_run(path, name, out / "runs").path


def requantized(path: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let llama.cpp quantize a file and decode what it wrote, import the former, and return what
    `compared` says of it and the latter.

    llama.cpp multiplies quantized matrices with activations of 8 bits. The decoded file shows
    whether the numbers are the same.
    """
    written, decoded = (
        options.out / f"{path.name.removesuffix('.gguf')}.{name}.gguf"
        for name in (kind, f"{kind}.decoded")
    )
    for source, target, how in ((path, written, kind), (written, decoded, "F32")):
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.nthread, params.allow_requantize = FTYPES[how], 1, True
        files = (str(each).encode() for each in (source, target))
        if status := llama_cpp.llama_model_quantize(*files, ctypes.byref(params)):
            raise RuntimeError(f"llama_model_quantize gives {status}")
    (_, ours, _), (_, theirs, _) = read_file(written), read_file(decoded)
    for name, array in ours.items():
        if not mx.array_equal(array.astype(mx.float32), theirs[name].astype(mx.float32)):
            raise RuntimeError(f"{name} is decoded otherwise")
    run = imported(written, options.out)
    return compared(decoded, run, options.text or TEXTS, options.half)


def main() -> None:
    """Compare what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--text", action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--context", type=int)
    parser.add_argument("--quantize")
    parser.add_argument("--requantize")
    parser.add_argument("--half", action="store_true")
    options = parser.parse_args()
    options.set = [part for each in options.set for part in ("--set", each)]
    if options.run:
        found = compared(Path(options.models[0]), options.run, options.text or TEXTS, options.half)
        print(row(options.models[0], found))
        print(json.dumps(found["unlike"], indent=1, ensure_ascii=False))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    print("| model | texts with equal tokens | log probabilities | greedy tokens | ends |")
    print("|---|---|---|---|---|", flush=True)
    if options.requantize:
        for name, kind in product(map(Path, options.models), options.requantize.split(",")):
            log = options.out / f"{name.stem}.{kind}.log"
            print(row(log.stem, apart(partial(requantized, name, kind, options), log)), flush=True)
        return
    table(options)


if __name__ == "__main__":
    main()
