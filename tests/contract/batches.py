"""Rows of the slot `batch`, and the text and records that they are made of."""

import base64
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mlx_transformers.data.sound.read import wav_bytes

from .suite import Change, Row

TEXT = "".join(
    f"The {n} green bottles hang on a wall. {'One' if n % 3 else 'Another'} falls! Is it late?\n"
    for n in range(120)
)
BASES = str.maketrans("01", "AC")
SEQ_LEN = 24


def said(n: int) -> str:
    """A short sound as an address."""
    samples = np.sin(np.arange(1200) * (0.1 + n / 100))
    return "data:audio/wav;base64," + base64.b64encode(wav_bytes(samples)).decode()


RECORDS = [
    {
        "source": f"{n} green bottles",
        "target": f"bottles {'green ' * (n % 4)}{n}",
        "title": f"on {n}",
        "body": f"a wall {n * 7} on {n}",
        "text": f"{n} bottles",
        "label": "odd" if n % 2 else "even",
        "size": "large" if n > 30 else "small" if n > 10 else "tiny",
        "words": [f"{n}", "bottles", "fall"],
        "tags": ["number", "noun", "verb"],
        "others": ["all", f"{n * 3}", "walls"],
        "marks": ["b", "a", "b"],
        "question": f"how many for {n}?",
        "context": f"a {n % 9}, on {n % 9} more",
        "answer": "o",
        "spans": [[0, 1]],
        "places": [[2, 4]],
        "prompt": f"how many, {n}?",
        "completion": f"{n} of them",
        "chosen": f"{n}",
        "rejected": f"{n + 1}",
        "messages": [
            {"role": "user", "content": f"{n}?"},
            {"role": "assistant", "content": f"{n}"},
        ],
        "turns": [
            {"role": "user", "content": "and?"},
            {"role": "assistant", "content": f"{n + 2}"},
        ],
        "calls": [{"name": "add"}],
        "liked": n % 3 == 0,
        "hated": n % 2,
        "gap": n / 2,
        "letter": "a",
        "at": 11,
        "a": f"{n} bottles",
        "b": f"bottles: {n}",
        "pixels": " ".join(str((n + 5 * i) % 256) for i in range(24)),
        "image": "drawn.png",
        "photo": f"photo{n % 8}.png",
        "inputs": [[n / 7, float(i)] for i in range(SEQ_LEN)],
        "outputs": [n / 3 if i % 2 else None for i in range(SEQ_LEN)],
        "others_in": [[n / 9, float(i)] for i in range(SEQ_LEN)],
        "others_out": [n / 2 if i % 3 else None for i in range(SEQ_LEN)],
        "sound": said(n),
        "noise": said(-n),
        "alignment": f"{n:04b}"[-4:].translate(BASES) + "\nACCA\nCAAC",
        "aligned": "AACC\n" + f"{n:04b}"[-4:].translate(BASES),
        "far": [[abs(i - j) + n % 3 for j in range(4)] for i in range(4)],
        "near": [[abs(i - j) * (n % 2) for j in range(4)] for i in range(4)],
        "asked": f"<image> {n}",
        "negative": " ".join(str(255 - (n + 5 * i) % 256) for i in range(24)),
    }
    for n in range(60)
]

ROWS = [
    Row("batch", "rows", {"kind": "rows"}),
    Row("batch", "mlm", {"kind": "mlm"}),
    Row("batch", "sentence pairs", {"kind": "sentence_pairs"}),
    Row("batch", "span corruption", {"kind": "span_corruption"}),
    Row("batch", "denoise", {"kind": "denoise", "infill": 0.3}),
    Row("batch", "prefix", {"kind": "prefix"}),
    Row("batch", "pairs", {"kind": "pairs"}),
    Row("batch", "labeled", {"kind": "labeled"}),
    Row("batch", "tagged", {"kind": "tagged"}),
    Row("batch", "answers", {"kind": "answers"}),
    Row("batch", "spans", {"kind": "spans"}),
    Row("batch", "completions", {"kind": "completions"}),
    Row("batch", "chat", {"kind": "chat", "template": "chat.jinja"}),
    Row("batch", "preferences", {"kind": "preferences"}),
    Row("batch", "prompts", {"kind": "prompts"}),
    Row("batch", "unpaired", {"kind": "unpaired", "label_key": "liked"}),
    Row("batch", "contrastive", {"kind": "contrastive"}),
    Row("batch", "streams", {"kind": "streams"}),
    Row("batch", "skip-gram", {"kind": "skip_gram", "subsample": 0.02}),
    Row("batch", "cbow", {"kind": "cbow", "subsample": 0.02}),
    Row("batch", "image text", {"kind": "image_text", "size": [4, 6], "channels": 1}),
    Row(
        "batch",
        "regression",
        {"kind": "regression", "vectors_key": "inputs", "values_key": "outputs"},
    ),
    Row("batch", "captions", {"kind": "captions", "size": [4, 6], "channels": 1, "patches": 2}),
    Row(
        "batch",
        "mixed modal",
        {"kind": "mixed_modal", "size": [4, 6], "channels": 1, "patches": 4, "n_codes": 5},
    ),
    Row("batch", "images", {"kind": "images", "image_key": "photo", "size": [4, 6], "channels": 1}),
    Row("batch", "pictures", {"kind": "pictures", "pixels_key": "pixels"}),
    Row(
        "batch",
        "transcripts",
        {"kind": "transcripts", "audio_key": "sound", "n_mels": 4, "seconds": 0.1},
    ),
    Row(
        "batch",
        "alignments",
        {
            "kind": "alignments",
            "alignment_key": "alignment",
            "distances_key": "far",
            "length": 4,
            "bins": [1.5, 3.5],
            "separation": 1,
        },
    ),
    Row(
        "batch",
        "shifted pictures",
        {"kind": "pictures", "pixels_key": "pixels", "width": 6, "shift": 1},
    ),
    Row(
        "batch",
        "sized pictures",
        {"kind": "pictures", "pixels_key": "pixels", "size": [4, 6], "shift": 1},
    ),
]

# No text here spells a special token out, and none is a list of messages.
PROMPTED = {
    "prompt_key": "title",
    "template": Change("chatml", result=False),
    "special_tokens": Change(True, result=False),
}
WINDOWED = {"window": 2, "negatives": 3, "power": 0.2, "subsample": None}

CHANGES = {
    "rows": {},
    "mlm": {"masking": {"share": 0.3}, "copies": 2},
    "sentence_pairs": {"task": "order", "masking": {"unit": "word"}, "short_share": 0.9},
    "span_corruption": {"density": 0.4, "mean_span": 2.0, "sentinels": 50, "start": "end"},
    "denoise": {
        "permute": True,
        "rotate": True,
        "infill": 0.5,
        "mean_span": 1.0,
        "delete": 0.2,
        "mask": 0.2,
        "start": "end",
    },
    "prefix": {},
    "skip_gram": WINDOWED,
    "cbow": WINDOWED,
    "streams": {},
    "pairs": {
        "source_key": "title",
        "target_key": "body",
        "prefix": "say: ",
        "lengths": [12, 24],
        "target_len": 10,
        "reverse_source": True,
        "start": "end",
    },
    "transcripts": {
        "audio_key": "noise",
        "text_key": "title",
        "n_mels": 5,
        "seconds": 0.2,
    },
    "alignments": {
        "alignment_key": "aligned",
        "distances_key": "near",
        "length": 3,
        "bins": [2.5],
        "separation": 2,
        "masking": {"share": 0.5},
    },
    "pictures": {
        "pixels_key": "negative",
        "label_key": "size",
        "size": Change([6, 4], row="sized pictures"),
        "width": Change(12, row="shifted pictures"),
        "shift": Change(2, row="shifted pictures"),
        "rotate": Change(20.0, row="shifted pictures"),
        "zoom": Change(0.3, row="shifted pictures"),
        "channels": Change(3, row="shifted pictures"),
    },
    "captions": {
        "image_key": "negative",
        "prompt_key": "asked",
        "prompt": "see <image>:",
        "text_key": "body",
        "size": [6, 4],
        "channels": 3,
        "patches": 3,
        "shift": 1,
    },
    "mixed_modal": {
        "image_key": "negative",
        "text_key": "body",
        "size": [6, 4],
        "channels": 3,
        "patches": 3,
        "n_codes": 6,
        "picture_first": 0.0,
        "shift": 1,
    },
    "images": {"image_key": "negative", "size": [6, 4], "channels": 3, "shift": 1},
    "image_text": {
        "image_key": "negative",
        "text_key": "body",
        "size": [6, 4],
        "channels": 3,
        "shift": 1,
        "frame": "start_end",
    },
    "regression": {"vectors_key": "others_in", "values_key": "others_out"},
    "labeled": {
        "text_key": "body",
        "other_key": "title",
        "label_key": "size",
        "n_examples": 20,
    },
    "tagged": {"words_key": "others", "tags_key": "marks"},
    "answers": {
        "question_key": "title",
        "context_key": "body",
        "answer_key": "letter",
        "start_key": "at",
    },
    "spans": {"text_key": "body", "spans_key": "places"},
    "completions": {**PROMPTED, "completion_key": "body", "prompt_loss": True},
    "chat": {
        "messages_key": "turns",
        "tools_key": "calls",
        "template": "brief.jinja",
        "turns": "text",
    },
    "preferences": {
        **PROMPTED,
        "chosen_key": "source",
        "rejected_key": "target",
        "margin_key": "gap",
    },
    "prompts": PROMPTED,
    "unpaired": {**PROMPTED, "completion_key": "body", "label_key": "hated"},
    "contrastive": {"a_key": "title", "b_key": "body"},
}


def write_files(folder: Path) -> None:
    """The text and the records that batches are made of."""
    (folder / "text.txt").write_text(TEXT)
    (folder / "chat.jinja").write_text(
        "{{ tools }}{% for m in messages %}{{ m.role[0] }}{{ m.content }};{% endfor %}"
        "{% if add_generation_prompt %}a{% endif %}"
    )
    (folder / "brief.jinja").write_text(
        "{% for m in messages %}{{ m.role[0] | upper }}{{ m.content }}.{% endfor %}"
        "{% if add_generation_prompt %}A{% endif %}"
    )
    colours = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    Image.fromarray(colours).save(folder / "drawn.png")
    for n in range(8):
        Image.fromarray(colours * (n + 3)).save(folder / f"photo{n}.png")
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
