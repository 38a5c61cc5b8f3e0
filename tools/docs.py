"""Fill what is generated in the docs and README.md: reference, recipes, the ladder's numbers.

    python tools/docs.py            write
    python tools/docs.py --check    fail if a file would change

A page marks what is generated with `<!-- begin NAME [ARGUMENT] -->` and `<!-- end NAME -->`; the
text between the two belongs to this tool. `recipe.schema.json` is generated whole.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mlx_transformers.assembly.recipe import Recipe, load_recipe
from mlx_transformers.layers.counts import count
from mlx_transformers.recipe.schema import json_schema, reference
from mlx_transformers.report.table import Rung, markdown, read, verdicts

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REGION = re.compile(r"(<!-- begin (\w+)(?: ([\w./-]+))? -->\n).*?(<!-- end \2 -->)", re.DOTALL)

CHAIN = ("base", "gpt2", "llama", "mistral", "mixtral")
LADDER = "mlxt ladder recipes/mixtral_tiny.toml"
NO_LADDER = f"Not measured yet. `{LADDER}` makes the numbers: see [the ladder]({{page}}).\n"
NO_LADDER_HERE = (
    f"Not measured yet. Run `{LADDER}`, copy `ladder.json` and `ladder.svg` from "
    "`runs/ladder-mixtral_tiny` to `docs`, and run `make docs`.\n"
)


def recipe_region(page: Path, name: str) -> str:
    """A recipe as it stands in its file."""
    path = ROOT / "recipes" / f"{name}.toml"
    text = path.read_text(encoding="utf-8").rstrip()
    return f"[`recipes/{name}.toml`]({_link(page, path)}):\n\n```toml\n{text}\n```\n"


def reference_region(page: Path, _: str) -> str:
    """Every table, slot and kind; a slot's name leads to its kinds."""
    text = reference(Recipe).split("\n", 2)[2].lstrip()
    return re.sub(r"\| an? `(\w+)` \|", r"| a kind of [`\1`](#slot-\1) |", text)


def ladder_region(page: Path, name: str) -> str | None:
    """A ladder's table, from docs/ladder.json, or docs/ladder-NAME.json with its verdicts.

    A page outside docs/ keeps its own text as long as there is none.
    """
    rungs = _rungs(name)
    if not rungs:
        return NO_LADDER_HERE if page.parent == DOCS else None
    sentences = "".join(f"- {sentence}\n" for sentence in verdicts(rungs))
    return markdown(rungs) + (f"\n{sentences}" if sentences else "")


def figure_region(page: Path, _: str) -> str:
    """The ladder's figure."""
    figure = DOCS / "ladder.svg"
    if not figure.exists():
        return "The figure comes with the numbers.\n"
    return f"![Validation bits per byte against training tokens]({_link(page, figure)})\n"


def sizes_region(page: Path, _: str) -> str:
    """Parameters of the chain at each of its sizes, in millions."""
    lines = ["| recipe | `_tiny` | `_small` | `_base` |", "|---|---:|---:|---:|"]
    for name in CHAIN:
        cells = [_parameters(f"{name}_{size}") for size in ("tiny", "small", "base")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def sample_region(page: Path, _: str) -> str | None:
    """Text of a trained model, from docs/sample.txt; without that file, the page's own."""
    text = _read(DOCS / "sample.txt")
    return None if text is None else f"```text\n{text.strip()}\n```\n"


def speed_region(page: Path, _: str) -> str | None:
    """Speeds beside other projects, from docs/speed.txt; without that file, the page's own."""
    return _read(DOCS / "speed.txt")


def effect_region(page: Path, recipe: str) -> str:
    """One rung beside the rung below it."""
    rungs = _rungs()
    names = [rung.recipe for rung in rungs]
    if recipe not in names:
        return NO_LADDER.format(page=_link(page, DOCS / "ladder.md"))
    at = names.index(recipe)
    own = rungs[at]
    seen = f"{own.tokens / 1e6:.1f} million tokens"
    if own.delta_bpb is None:
        said = f"The root of the chain reaches {own.val_bpb:.3f} bits per byte after {seen}."
    else:
        verdict = _verdict(own.delta_bpb)
        said = f"After {seen}, {own.delta_bpb:+.3f} bits per byte against its parent: {verdict}."
    return f"{said}\n\n{markdown(rungs[max(0, at - 1) : at + 1])}"


def families_region(page: Path, folder: str) -> str | None:
    """Losses of the small recipes of a folder, as tools/families.py measured them, and what their
    decoding costs."""
    text = _read(DOCS / "families.json")
    rows = {
        name: row
        for name, row in sorted(json.loads(text).items() if text else ())
        if Path(name).parent.as_posix() == folder and "val_loss" in row
    }
    if not rows:
        return None
    decode = any("tokens_per_s" in row for row in rows.values())
    more = (" state, KiB | decoding tokens/s |", "---:|---:|") if decode else ("", "")
    lines = ["| recipe | million weights | loss | bits/byte | steps |" + more[0]]
    lines.append("|---|---:|---:|---:|---:|" + more[1])
    for name, row in rows.items():
        link = f"[`{Path(name).name}`]({_link(page, ROOT / 'recipes' / f'{name}.toml')})"
        bits = f"{row['val_bpb']:.3f}" if "val_bpb" in row else ""
        size = f"{row['parameters'] / 1e6:.2f}"
        line = f"| {link} | {size} | {row['val_loss']:.3f} | {bits} | {row['steps']} |"
        if "tokens_per_s" in row:
            line += f" {row['state_bytes'] / 1024:,.0f} | {row['tokens_per_s']:,.0f} |"
        lines.append(line + ("  |  |" if decode and "tokens_per_s" not in row else ""))
    return "\n".join(lines)


REGIONS: Mapping[str, Callable[[Path, str], str | None]] = {
    "recipe": recipe_region,
    "reference": reference_region,
    "ladder": ladder_region,
    "figure": figure_region,
    "sizes": sizes_region,
    "sample": sample_region,
    "speed": speed_region,
    "effect": effect_region,
    "families": families_region,
}
"""Names that can stand after `begin`."""


def filled(page: Path, text: str) -> str:
    """A page with every region made anew.

    Raises:
        KeyError: a region of a name that isn't known.
    """

    def made(match: re.Match[str]) -> str:
        begin, name, argument, end = match.groups()
        if name not in REGIONS:
            raise KeyError(f"{page}: unknown region '{name}'. Known: {', '.join(REGIONS)}.")
        text = REGIONS[name](page, argument or "")
        return match[0] if text is None else f"{begin}\n{text.rstrip()}\n\n{end}"

    return REGION.sub(made, text)


def outputs() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    pages = [path for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))) if path.exists()]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    files = {page: filled(page, text) for page, text in texts.items() if REGION.search(text)}
    schema = json.dumps(json_schema(Recipe), indent=2, ensure_ascii=False) + "\n"
    return files | {DOCS / "recipe.schema.json": schema}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    files = outputs()
    stale = [path for path, text in files.items() if _read(path) != text]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"Stale: {names}. Run: make docs")
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        print(path.relative_to(ROOT))


def _rungs(name: str = "") -> list[Rung]:
    """The rungs of docs/ladder.json or docs/ladder-NAME.json, as `mlxt ladder` wrote them."""
    text = _read(DOCS / (f"ladder-{name}.json" if name else "ladder.json"))
    return read(text) if text else []


def _parameters(recipe: str) -> str:
    loaded = load_recipe(recipe)
    counts = count(loaded.model.build(loaded.data.tokenizer.vocab_size))
    total, active = (f"{n / 1e6:.2f}M" for n in (counts.total, counts.active))
    return total if total == active else f"{total}, active {active}"


def _verdict(delta: float) -> str:
    """A difference in words; another seed alone moves a run by about a hundredth (docs/log.md)."""
    if abs(delta) < 0.02:
        return "no difference that one seed can show"
    return "better" if delta < 0 else "worse at this size and budget"


def _link(page: Path, target: Path) -> str:
    return Path(os.path.relpath(target, page.parent)).as_posix()


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    main()
