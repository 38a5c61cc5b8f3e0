"""Write what transformers takes where a config.json says nothing.

    PYTHON tools/defaults.py        (PYTHON has transformers)

It makes tests/parity/defaults.json: for every `model_type` that has a golden, what a config of its
class says that was told nothing, less what every config says.
"""

import json
from pathlib import Path
from typing import Any

from reference_configs import OWN_CLASS
from transformers import CONFIG_MAPPING, PretrainedConfig

PARITY = Path(__file__).parents[1] / "tests" / "parity"


def defaults(model_type: str) -> dict[str, Any]:
    """The keys of a config class whose values are its own."""
    common = PretrainedConfig().to_dict()
    told = CONFIG_MAPPING[model_type]().to_dict()
    return {k: v for k, v in told.items() if k not in common or v != common[k]}


def main() -> None:
    goldens = sorted(PARITY.glob("goldens/*.json"))
    types = {json.loads(path.read_text("utf-8"))["config"]["model_type"] for path in goldens}
    # one line each, so that a change of transformers is a change of lines
    known = sorted(types & set(CONFIG_MAPPING) - OWN_CLASS)
    lines = [f"{json.dumps(name)}: {json.dumps(defaults(name))}" for name in known]
    (PARITY / "defaults.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
