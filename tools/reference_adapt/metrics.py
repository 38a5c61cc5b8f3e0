"""Cases of form `json` that evaluate: metrics of predictions, and log-likelihoods of a model."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from mlx_transformers.assembly.published import read_published
from mlx_transformers.core.errors import RunError, unknown
from mlx_transformers.decode.windows import (
    continuation_window,
    rolling_windows,
    score_windows,
    strided_windows,
)
from mlx_transformers.models.model import Decodable
from mlx_transformers.score import classes, correlation, extract
from mlx_transformers.score.bleu import Bleu
from mlx_transformers.score.calibration import brier, calibration, log_softmax, nll
from mlx_transformers.score.choices import Choices, standard_error
from mlx_transformers.score.chrf import Chrf
from mlx_transformers.score.pass_at_k import pass_at_k
from mlx_transformers.score.perplexity import bits_per_byte, perplexity
from mlx_transformers.score.rouge import best_rouge, rouge
from mlx_transformers.score.spans import squad
from reference_adapt.json_form import Rule

Options = dict[str, Any]
Values = dict[str, Any]


def calibrated(folder: Path, options: Options, inputs: Values) -> Values:
    """Calibration errors of logits or probabilities."""
    labels = np.array(inputs["labels"] if "labels" in inputs else inputs["target"])
    if "logits" in inputs:
        log_probs = log_softmax(np.array(inputs["logits"]))
    else:
        log_probs = np.log(np.array(inputs["probs"]))
    probs = np.exp(log_probs)
    right = (probs.argmax(axis=1) == labels).astype(np.float64)
    found = calibration(probs.max(axis=1), right, options.get("bins", options.get("n_bins", 15)))
    scores = {"brier": brier(probs, labels).mean(), "nll": nll(log_probs, labels).mean()}
    return {
        "ece": found.ece,
        "rms": found.rms,
        "mce": found.mce,
        "accuracy": float(right.mean()),
        **{name: float(value) for name, value in scores.items()},
    }


def generated_text(folder: Path, options: Options, inputs: Values) -> Values:
    """BLEU, chrF and ROUGE of texts, each with all of its references."""
    texts, references = inputs["hypotheses"], inputs["references"]
    references = [[one] if isinstance(one, str) else one for one in references]
    bleu = Bleu(
        tokenize=options.get("tokenize", "13a"),
        lowercase=options.get("lowercase", False),
        order=options.get("max_ngram_order", 4),
        smooth=options.get("smooth_method", "exp"),
        smooth_value=options.get("smooth_value"),
        effective_order=options.get("effective_order", options.get("use_effective_order", False)),
    )
    chrf = Chrf(
        char_order=options.get("char_order", 6),
        word_order=options.get("word_order", 0),
        beta=options.get("beta", 2),
        lowercase=options.get("lowercase", False),
        whitespace=options.get("whitespace", options.get("remove_whitespace") is False),
        eps_smoothing=options.get("eps_smoothing", False),
    )
    pairs = list(zip(texts, references, strict=True))
    found: Values = {
        name: metric.value(np.sum([metric.counts(text, refs) for text, refs in pairs], axis=0))
        for name, metric in (("bleu", bleu), ("chrf", chrf))
    }
    stem = options.get("use_stemmer", options.get("stemmer", False))
    every = options.get("multi", options.get("all_references", False))
    for kind in ("rouge1", "rouge2", "rouge3", "rouge4", "rougeL", "rougeLsum"):
        scores = [
            best_rouge(kind, refs, text, stem=stem)
            if every
            else rouge(kind, refs[0], text, stem=stem)
            for text, refs in pairs
        ]
        found[kind] = float(np.mean([score.f for score in scores]))
        found[f"{kind}_precision"] = float(np.mean([score.precision for score in scores]))
        found[f"{kind}_recall"] = float(np.mean([score.recall for score in scores]))
    return found


def glue(folder: Path, options: Options, inputs: Values) -> Values:
    """Metrics of classification or regression."""
    labels, said = np.array(inputs["labels"]), np.array(inputs["predictions"])
    if options["task"] == "regression":
        return {
            "pearson": correlation.pearson(labels, said),
            "spearman": correlation.spearman(labels, said),
            "mse": float(((labels - said) ** 2).mean()),
            "mae": float(np.abs(labels - said).mean()),
        }
    names = np.unique(np.concatenate([labels, said]))
    if options["task"] == "binary":
        names = np.array([0, 1])
    elif options["task"] not in ("multiclass", "classification"):
        raise RunError(unknown("task", options["task"], ("binary", "multiclass", "regression")))
    table = classes.confusion(
        np.searchsorted(names, labels), np.searchsorted(names, said), len(names)
    )
    usual = "binary" if options["task"] == "binary" else "macro"
    return {
        "accuracy": classes.accuracy(table),
        "f1": classes.f1(table, options.get("average", usual)),
        "macro_f1": classes.f1(table, "macro"),
        "f1_macro": classes.f1(table, "macro"),
        "f1_micro": classes.f1(table, "micro"),
        "f1_weighted": classes.f1(table, "weighted"),
        "matthews": classes.matthews(table),
    }


def gsm8k(folder: Path, options: Options, inputs: Values) -> Values:
    """Extracted answers and exact match, by the strict and the flexible pattern."""
    rule = extract.Normalisation(
        tuple(options.get("regexes_to_ignore", extract.GSM8K.removed)),
        options.get("ignore_case", True),
        options.get("ignore_punctuation", False),
        options.get("ignore_numbers", False),
    )
    found: Values = {}
    patterns = {"strict": extract.GSM8K_STRICT, "flexible": extract.GSM8K_FLEXIBLE}
    if "regex_pattern" in options:
        own = extract.Extraction(
            options["regex_pattern"],
            options.get("group_select", 0),
            options.get("fallback", extract.INVALID),
        )
        patterns = {"strict": own, "flexible": own, "regex": own}
    for name, pattern in patterns.items():
        taken = [pattern(text) for text in inputs["predictions"]]
        pairs = zip(taken, inputs["answers"], strict=True)
        match = [float(rule.same(a, b)) for a, b in pairs]
        found |= {
            f"{name}_extracted": taken,
            f"{name}_match": match,
            f"{name}_exact_match": float(np.mean(match)),
        }
    return found | {name.removeprefix("regex_"): value for name, value in found.items()}


def model_scores(folder: Path, options: Options, inputs: Values) -> Any:
    """Perplexities and log-likelihoods of the model in base/."""
    model = read_published(folder / "base").model
    assert isinstance(model, Decodable)
    longest = options["max_length"]
    if options["kind"] == "strided":
        return strided_perplexity(model, inputs["tokens"], longest, options["stride"])
    if options["kind"] == "loglikelihood":
        before = [inputs["prefix_token"]] if "prefix_token" in inputs else []
        windows = [
            continuation_window(each["context"] or before, each["continuation"], longest)
            for each in inputs["requests"]
        ]
        return [
            {"loglikelihood": score.loglikelihood, "is_greedy": score.is_greedy}
            for score in score_windows(model, windows)
        ]
    if options["kind"] != "rolling":
        kinds = ("strided", "rolling", "loglikelihood")
        raise RunError(unknown("kind of scores", options["kind"], kinds))
    windows = rolling_windows(
        [inputs["prefix_token"]], inputs["tokens"], longest, options.get("context_len", 1)
    )
    scores = score_windows(model, windows)
    loglikelihood = sum(score.loglikelihood for score in scores)
    return {
        "loglikelihood": loglikelihood,
        "tokens_scored": sum(window.scored for window in windows),
        "windows": len(windows),
        "word_perplexity": perplexity(loglikelihood, inputs["words"]),
        "byte_perplexity": perplexity(loglikelihood, inputs["bytes"]),
        "bits_per_byte": bits_per_byte(loglikelihood, inputs["bytes"]),
    }


def strided_perplexity(model: Decodable, tokens: list[int], longest: int, stride: int) -> Values:
    """Perplexity of sliding windows, weighted as transformers' documentation does: by one less than
    the number of labels."""
    windows = strided_windows(tokens, longest, stride)
    scores = score_windows(model, windows)
    losses = [-score.loglikelihood / max(score.n_tokens, 1) for score in scores]
    weights = [window.scored - 1 for window in windows]
    total = sum(loss * weight for loss, weight in zip(losses, weights, strict=True))
    return {
        "ppl": math.exp(total / sum(weights)),
        "ppl_mean_of_windows": math.exp(float(np.mean(losses))),
        "tokens_scored": sum(weights),
        "windows": len(windows),
    }


def multiple_choice(folder: Path, options: Options, inputs: Values) -> Values:
    """Marks of each document, their means and standard errors."""
    documents = []
    for doc in inputs["docs"]:
        gold = doc["gold"] if isinstance(doc["gold"], list) else [doc["gold"]]
        alone = doc.get("lls_unconditional") if options.get("mutual_info") else None
        documents.append(
            Choices(
                doc["choices"],
                np.array(doc["lls"]),
                tuple(gold),
                doc["is_greedy"],
                None if alone is None else np.array(alone),
            )
        )
    marks = [document.marks() for document in documents]
    found: Values = {"per_doc": marks}
    for name in marks[0]:
        each = [mark[name] for mark in marks]
        found |= {name: float(np.mean(each)), f"{name}_stderr": standard_error(each)}
    if len({len(document.texts) for document in documents}) == 1:
        found["brier_score"] = float(np.mean([document.brier() for document in documents]))
    return found


def passed(folder: Path, options: Options, inputs: Values) -> Values:
    """pass@k of each task, and the mean."""
    right, samples = inputs["correct"], inputs["samples"]
    samples = samples if isinstance(samples, list) else [samples] * len(right)
    pairs = zip(samples, right, strict=True)
    # The published code takes a task with fewer wrong samples than k to be passed, however few.
    each = [1.0 if n - c < options["k"] else pass_at_k(n, c, options["k"]) for n, c in pairs]
    return {"per_task": each, "mean": float(np.mean(each))}


def question_answering(folder: Path, options: Options, inputs: Values) -> Values:
    """Exact match and F1 of each answer, and the means, in percent."""
    pairs = zip(inputs["answers"], inputs["predictions"], strict=True)
    found = [squad(answers, said) for answers, said in pairs]
    each = [{"f1": 100 * f, "exact_match": 100 * exact} for exact, f in found]
    means = {name: float(np.mean([one[name] for one in each])) for name in ("f1", "exact_match")}
    return {"per_item": each, **means}


RULES = (
    Rule(r"calibration_error", calibrated),
    Rule(r"sacrebleu|rouge_score", generated_text),
    Rule(r"sklearn\.metrics|scipy\.stats", glue),
    Rule(r"RegexFilter", gsm8k),
    Rule(r"sliding-window perplexity|get_rolling_token_windows", model_scores),
    Rule(r"ConfigurableTask\.process_results", multiple_choice),
    Rule(r"estimate_pass_at_k", passed),
    Rule(r"text\.squad", question_answering),
)
