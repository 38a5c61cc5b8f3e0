"""Score imported models against the outputs that another implementation gave for them.

    python tools/parity.py CASE... --out DIR

A case is a folder: config.json and safetensors as transformers saves them, perhaps the same config
in the older dialect (config.v4.json), `expected.safetensors` with inputs and outputs, and
meta.json with the outputs that count and their tolerance (or, for a copy of a case under other
tensor names, where those two files are). Each is loaded by the code of `mlxt import`, once for
each config. Outputs go to DIR/CASE.safetensors and DIR/CASE.v4.safetensors under the names of the
expected ones, scores to DIR/scores.json. The exit code is 1 if a case fails.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import mlx_transformers  # noqa: F401  (chooses the backend before MLX loads)

# isort: split
import mlx.core as mx
import numpy as np
from model_outputs import outputs

from mlx_transformers.assembly.published import read_published
from mlx_transformers.core.errors import MlxtError

DIALECTS = {"5": "config.json", "4": "config.v4.json"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", type=Path, metavar="CASE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dialect", choices=DIALECTS, help="one config only; default both")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = [
        run(case, name, args.out)
        for case in args.cases
        if case.is_dir()
        for dialect, name in DIALECTS.items()
        if args.dialect in (None, dialect) and ((case / name).is_file() or dialect == "5")
    ]
    (args.out / "scores.json").write_text(json.dumps(results, indent=1) + "\n")
    passed = sum(result["ok"] for result in results)
    print(f"{passed} of {len(results)} pass")
    sys.exit(passed < len(results))


def run(case: Path, config: str, out: Path) -> dict[str, Any]:
    """Load a case with one of its configs, write its outputs, print and return its scores."""
    name = case.name + (".v4" if config == DIALECTS["4"] else "")
    try:
        meta, arrays = read_case(case)
        found = read_published(case, config)
        got = outputs(found.model, arrays)
        mx.save_safetensors(
            str(out / f"{name}.safetensors"), {k: mx.array(v) for k, v in got.items()}
        )
        result = score(meta, arrays, got)
    except MlxtError as error:
        result = {"ok": False, "error": str(error)}
    except Exception as error:  # one case that breaks must not hide the others
        result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    told = result.get("error") or ", ".join(f"{k} {v:.1e}" for k, v in result["diff"].items())
    print(f"{'ok  ' if result['ok'] else 'FAIL'} {name}: {told}", flush=True)
    return {"case": name, **result}


def read_case(case: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a case: its metadata, and its inputs and expected outputs."""
    meta = json.loads((case / "meta.json").read_text())
    expected = case / meta.get("expected", "expected.safetensors")
    if "base" in meta:
        meta = {**json.loads((case / meta["meta"]).read_text()), **meta}
    loaded: Any = mx.load(str(expected))
    arrays = {name: np.array(array) for name, array in loaded.items()}
    start = (meta.get("gen") or {}).get("decoder_start_token_id")
    return meta, arrays if start is None else arrays | {"start_id": np.array(start)}


def score(
    meta: dict[str, Any], arrays: dict[str, np.ndarray], got: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The largest differences where they count, and whether all are within the tolerance.

    Padding doesn't count. A greedy continuation has to choose the same tokens.
    """
    masks = {"lp_logits": arrays.get("lp_attention_mask")}
    generated = "gen_tokens" in arrays and not meta.get("gen", {}).get("optional")
    names = [*meta["outputs"]]
    names += [n for n in ("gen_logits", "lp_logits") if n in arrays and (generated or n[0] == "l")]
    diff = {
        name: difference(arrays[name], got.get(name), masks.get(name, arrays.get("attention_mask")))
        for name in names
    }
    same = not generated or np.array_equal(arrays["gen_tokens"], got.get("gen_tokens", ()))
    ok = bool(same and all(value <= meta["tolerance"] for value in diff.values()))
    return {"ok": ok, "tokens_equal": same, "tolerance": meta["tolerance"], "diff": diff}


def difference(want: np.ndarray, got: np.ndarray | None, mask: np.ndarray | None) -> float:
    """The largest absolute difference where `mask` is 1; infinite where shapes differ."""
    if got is None or got.shape != want.shape:
        return float("inf")
    if mask is not None and want.shape[:2] == mask.shape:
        want, got = want[mask == 1], got[mask == 1]
    found = np.abs(want.astype(np.float64) - got.astype(np.float64)).max()
    return float(found) if np.isfinite(found) else float("inf")


if __name__ == "__main__":
    main()
