"""Finds the name that a user meant: a misspelt one, an abbreviation, or another library's word."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.6
"""Least similarity of a misspelling, as difflib measures it: of 5 letters, 3 are there in order."""

SHORTEST = 3
"""Least letters of a beginning that stands for a name; letters in order have to be more."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    # keys of recipes
    "blocksize": ("seq_len", "max_seq_len"),
    "contextlength": ("max_seq_len", "seq_len"),
    "context": ("max_seq_len", "seq_len"),
    "ctx": ("max_seq_len", "seq_len"),
    "nctx": ("max_seq_len", "seq_len"),
    "maxlength": ("seq_len", "max_seq_len", "max_tokens"),
    "maxseqlength": ("seq_len", "max_seq_len"),
    "sequencelength": ("seq_len",),
    "maxpositionembeddings": ("max_seq_len",),
    "maxiters": ("steps",),
    "maxsteps": ("steps",),
    "numiterations": ("steps",),
    "iters": ("steps",),
    "globalbatchsize": ("batch_size",),
    "devicebatchsize": ("microbatch",),
    "microbatchsize": ("microbatch",),
    "gradientaccumulationsteps": ("accumulate",),
    "gradaccumulationsteps": ("accumulate",),
    "gradaccumulation": ("accumulate",),
    "gradaccum": ("accumulate",),
    "gradientcheckpointing": ("recompute",),
    "gradcheckpoint": ("recompute",),
    "activationcheckpointing": ("recompute",),
    "gradclip": ("clip",),
    "gradientclipping": ("clip",),
    "maxgradnorm": ("clip",),
    "clipgradnorm": ("clip",),
    "lr": ("learning_rate",),
    "wd": ("weight_decay",),
    "bs": ("batch_size",),
    "maxlr": ("learning_rate",),
    "embeddinglr": ("learning_rate",),
    "matrixlr": ("learning_rate",),
    "lrscheduler": ("schedule",),
    "lrschedulertype": ("schedule",),
    "lrschedule": ("schedule",),
    "warmupsteps": ("warmup",),
    "warmupiters": ("warmup",),
    "warmupratio": ("warmup",),
    "precision": ("dtype",),
    "evalinterval": ("eval.every",),
    "evalevery": ("eval.every",),
    "evalsteps": ("eval.every",),
    "stepspereval": ("eval.every",),
    "valbatches": ("eval.batches",),
    "evaliters": ("eval.batches",),
    "saveevery": ("checkpoint.every",),
    "saveinterval": ("checkpoint.every",),
    "savesteps": ("checkpoint.every",),
    "loginterval": ("log.every",),
    "loggingsteps": ("log.every",),
    "stepsperreport": ("log.every",),
    "reportto": ("log.wandb", "log.tensorboard"),
    "optimizer": ("optim.kind", "optim"),
    "dmodel": ("dim",),
    "nembd": ("dim",),
    "hiddensize": ("dim",),
    "embeddim": ("dim",),
    "modeldim": ("dim",),
    "numlayers": ("n_layers",),
    "numhiddenlayers": ("n_layers",),
    "depth": ("n_layers",),
    "layers": ("n_layers",),
    "width": ("dim",),
    "heads": ("n_heads",),
    "nhead": ("n_heads",),
    "numheads": ("n_heads",),
    "numattentionheads": ("n_heads",),
    "numkeyvalueheads": ("n_kv_heads",),
    "nquerygroups": ("n_kv_heads",),
    "experts": ("n_experts",),
    "numexperts": ("n_experts",),
    "intermediatesize": ("hidden_dim",),
    "dff": ("hidden_dim",),
    "ffndim": ("hidden_dim",),
    "ropetheta": ("theta",),
    "ropebase": ("theta",),
    "slidingwindow": ("window",),
    "lorarank": ("rank",),
    "lorar": ("rank",),
    "loraalpha": ("alpha",),
    "loradropout": ("adapt.dropout", "dropout"),
    # kinds
    "mha": ("attention",),
    "gqa": ("attention",),
    "mqa": ("attention",),
    "selfattention": ("attention",),
    "mla": ("latent",),
    "swiglu": ("glu",),
    "geglu": ("glu",),
    "rotary": ("rope",),
    "bpe": ("byte_level_bpe", "sentencepiece"),
    "sft": ("clm",),
    "momentum": ("sgd",),
    # options
    "model": ("run", "src"),
    "checkpoint": ("run", "src"),
    "checkpointdir": ("run", "src"),
    "ckpt": ("run", "src"),
    "numsamples": ("samples",),
    "maxnewtokens": ("max_tokens",),
    "numbeams": ("beams",),
    "draftmodel": ("draft",),
    "numdrafttokens": ("draft_tokens",),
    "output": ("out",),
    "outputdir": ("out",),
    "outdir": ("out",),
    "savepath": ("out", "name"),
    "mlxpath": ("out", "name"),
    "qbits": ("bits",),
    "qgroupsize": ("group_size", "group"),
    "systemprompt": ("system",),
    "chattemplate": ("template",),
    "numshots": ("shots",),
    "numfewshot": ("shots",),
    "temperature": ("temp",),
    # verbs
    "remove": ("rm",),
    "delete": ("rm",),
    "clear": ("clean", "prune"),
    "lora": ("finetune",),
    "convert": ("import", "export", "quantize"),
    "download": ("import",),
    "merge": ("fuse",),
    "sample": ("generate",),
    "complete": ("generate",),
    "infer": ("generate",),
    "perplexity": ("eval",),
    "test": ("eval",),
    "ls": ("runs", "list"),
    "list": ("runs", "recipes"),
    "info": ("show", "doctor"),
    "awq": ("quantize",),
    "gptq": ("quantize",),
}
"""Words of other libraries, `squashed`, and the names that each may have here."""


def squashed(name: str) -> str:
    """A name in small letters, without what stands between its words."""
    return re.sub(r"[\s_-]+", "", name).lower()


def nearest(name: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """The known name that `name` probably means, or None when nothing comes close.

    In turn: the same word written otherwise ("seqlen"), another library's word, the initials of
    one name alone ("lr"), a misspelling, a beginning ("gen"), letters in order ("lrate").
    """
    names = list(known)
    if not (typed := squashed(name)):
        return None
    if (match := equivalent(name, names)) is not None:
        return match
    matches = get_close_matches(name, names, n=1, cutoff=cutoff)
    return matches[0] if matches else _shortened(typed, names)


def equivalent(name: str, known: Iterable[str]) -> str | None:
    """The known name that is the same word written otherwise, another library's, or abbreviated."""
    typed, names = squashed(name), list(known)
    alike = [*_same(typed, names), *_synonyms(typed, names), *_initials(typed, names)]
    return alike[0] if alike else None


def _same(typed: str, names: list[str]) -> list[str]:
    return [name for name in names if squashed(name) == typed]


def _synonyms(typed: str, names: list[str]) -> list[str]:
    return [here for here in SYNONYMS.get(typed, ()) if here in names]


def _initials(typed: str, names: list[str]) -> list[str]:
    """The one name whose words begin with these letters; none if several do."""
    if len(typed) < 2:
        return []
    found = [n for n in names if "".join(w[0] for w in re.findall(r"[^\W_]+", n)).lower() == typed]
    return found if len(found) == 1 else []


def _shortened(typed: str, names: list[str]) -> str | None:
    """The shortest name that begins with `typed`, or one of several words that begins with its
    first letter, has the others in order and isn't three times as long."""
    if len(typed) < SHORTEST:
        return None
    by_length = sorted(names, key=len)
    for name in by_length:
        if squashed(name).startswith(typed):
            return name
    for name in (n for n in by_length if len(typed) > SHORTEST and re.search(r"[_-]", n)):
        whole = squashed(name)
        if whole[:1] == typed[0] and len(whole) < 3 * len(typed) and _in_order(typed, whole):
            return name
    return None


def _in_order(letters: str, whole: str) -> bool:
    rest = iter(whole)
    return all(letter in rest for letter in letters)
