"""A model frozen by path with a wrapped linear layer, both from a file of the tests' own."""

import json
import os
from pathlib import Path

import forked

from . import tiny


def test_an_adapter_trains_resumes_and_decodes_without_edits_elsewhere(tmp_path):
    script = Path(__file__).with_name("adapted.py")
    words = [str(script), str(tiny.write(tmp_path)), str(tmp_path / "runs")]
    done = forked.run(words, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    adapters = [f"stack.blocks.{i}.mixer.kv.lora_{x}" for i in range(2) for x in "ab"]
    assert sorted(found["changed"]) == adapters
    assert all(any(name.endswith(f"{a}.m") for a in adapters) for name in found["moments"])
    assert len(found["moments"]) == len(adapters)
    assert found["resumed"], "resuming differs from a run in one go"
    assert found["decode"] < 1e-4  # the adapter is part of the weight that decoding multiplies by
    assert found["effect"] > 1e-3
    assert found["losses"][-1] < found["losses"][0]
