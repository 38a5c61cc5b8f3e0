"""One cell of a sweep: `python -m mlx_transformers.profile.cell '{"recipe": ..., "set": [...]}'`.

Prints the fields of a `Cell` as a line of JSON.
"""

import json
import sys

from ..assembly.build import build
from ..assembly.recipe import load_recipe
from ..core.errors import MlxtError
from .machine import Peaks
from .measure import measure_speed


def main() -> None:
    """Measure the recipe that the first argument names, and print the figures."""
    request = json.loads(sys.argv[1])
    try:
        built = build(load_recipe(request["recipe"], request["set"]))
        speed = measure_speed(built, request["steps"], Peaks(built.step.dtype))
    except MlxtError as error:
        print(json.dumps({"error": str(error)}))
        return
    result = {
        "tokens_per_s": speed.tokens_per_s.median,
        "low": speed.tokens_per_s.low,
        "high": speed.tokens_per_s.high,
        "peak_gib": speed.peak_gib,
        "mfu": speed.mfu,
        "mfu_missing": speed.mfu_missing,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
