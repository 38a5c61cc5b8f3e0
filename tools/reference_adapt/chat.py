"""Cases of form `json` that render chat templates."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.chat import touched
from mlx_transformers.data.chat_template import ChatTemplate
from mlx_transformers.data.tokenizers.published import read_tokenizer
from reference_adapt.json_form import Rule

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def conversation(folder: Path, options: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """The text, the tokens and the mask of what the assistant writes, or the error."""
    special = {name: inputs[name] for name in SPECIAL if inputs.get(name) is not None}
    now = inputs.get("now")
    source = (folder / inputs["template"]).read_text()
    tokenizer = read_tokenizer(folder)
    assert tokenizer is not None
    try:
        template = ChatTemplate(
            source, special, now=datetime.datetime.fromisoformat(now) if now else None
        )
        rendered = template.render(inputs["messages"], **options)
    except DataError as error:
        return {"error": str(error)}
    tokens, ends = tokenizer.encode_special_with_ends(rendered.text)
    mask = (touched(rendered, np.asarray(ends)) > 0).astype(int).tolist()
    return {"text": rendered.text, "input_ids": tokens, "assistant_mask": mask}


RULES = (Rule(r"apply_chat_template", conversation),)
