"""The chain from supervised fine-tuning to reinforcement on one small model, over several seeds.

    python tools/alignment_table.py chain [--methods dpo,orpo] [--no-reward] [--seeds 1,2,3]
    python tools/alignment_table.py frontier [--seeds 1,2,3] [--plot FILE.svg]

Trains, in --out, the recipes of recipes/align that the table needs (finished runs are reused,
others are resumed), has every policy answer the held-out sums, and prints a table in Markdown: mean
and 95 % interval over seeds (Student's t). `chain` compares the methods at 200 steps of 64
completions, with as many more steps of SFT as the control; `frontier` trains PPO with different
weights of the KL, and compares with best-of-n. A judge that no policy was trained on is the reward
model of another seed. Runs are measured, and started from, at their last step: none is chosen by
the held-out sums.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_transformers.assembly.recipe import load_recipe  # before mlx: it chooses the BLAS
from mlx_transformers.assembly.saved import load
from mlx_transformers.data.inspect import records
from mlx_transformers.decode.continuous import ContinuousEngine
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.report.plot import measure_curves
from mlx_transformers.rl.judges import ModelReward
from mlx_transformers.rl.response import Judge, Response
from mlx_transformers.rl.rewards import last_number
from mlx_transformers.rl.scoring import Scorer
from mlx_transformers.score.seeds import estimate
from mlx_transformers.verbs.evaluate import evaluate
from mlx_transformers.verbs.finetune import finetune
from mlx_transformers.verbs.train import Result, train

import numpy as np  # isort: skip

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "align"
MAX_TOKENS, WIDTH, ROWS = 5, 16, 64
DRAWS = 16
"""Answers that are sampled to each question, at temperature 1."""
JUDGE = "source.rewards.judge.run"
KL_WEIGHTS = (1.0, 0.1, 0.0)
BEST_OF = (1, 2, 4, 8, 16)

Scores = dict[str, float]


@dataclass(frozen=True)
class Method:
    """A recipe that starts from the SFT run.

    Attributes:
        recipe: its name.
        runs: keys that name a run, by the role of the run: "sft" or "reward".
        sets: further settings.
    """

    recipe: str
    runs: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[str, ...] = ()


BY_MODEL = ('source.rewards.judge={ kind = "model" }', "source.rewards.right.weight=0.0")
"""The reward model in place of checked answers."""
MORE = ("train.steps=200", "optim.learning_rate=3e-4", "optim.schedule.warmup=20")
CONTROL = "SFT, 200 steps more"
METHODS = {
    CONTROL: Method("sft_tiny", sets=(*MORE, "eval.every=50")),
    "DPO": Method("dpo_tiny", {"objective.reference": "sft"}),
    "PPO, reward model": Method("ppo_tiny", {"source.reference": "sft", JUDGE: "reward"}),
    "GRPO, checked": Method("grpo_tiny"),
    "RLOO, checked": Method("rloo_tiny", {"source.reference": "sft"}),
    "GRPO, reward model": Method("grpo_tiny", {JUDGE: "reward"}, BY_MODEL),
    "ORPO": Method("orpo_tiny"),
    "KTO": Method("kto_tiny", {"objective.reference": "sft"}),
    "REINFORCE, checked": Method("reinforce_tiny", {"source.reference": "sft"}),
}
FOLDERS = {name: name.lower().replace(",", "").replace(" ", "-") for name in METHODS}
"""The folder of each method's runs; `--methods` selects by these names."""


class Chain:
    """The runs of one seed in a folder, trained when they are asked for."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder / f"seed{seed}", seed

    def run(self, name: str) -> str:
        """The last checkpoint of a run."""
        return str(self.folder / name / "checkpoints" / "last")

    def base(self, reward: bool) -> None:
        """Train the SFT run, and the reward model that starts from it where it is asked for."""
        recipe = load_recipe(RECIPES / "sft_tiny.toml", [f"train.seed={self.seed}"])
        with logged(self.folder):
            done = train(recipe, name="sft", root=self.folder, resume="auto")
        check_finished(done)
        if reward:
            self.tune("reward", Method("reward_tiny"))

    def tune(self, name: str, method: Method) -> str:
        """Train a method from the SFT run, and return its last checkpoint."""
        runs = [f'{key}="{self.run(role)}"' for key, role in method.runs.items()]
        with logged(self.folder):
            done = finetune(
                self.run("sft"),
                RECIPES / f"{method.recipe}.toml",
                set=[*method.sets, *runs, f"train.seed={self.seed}"],
                name=name,
                resume="auto",
                root=self.folder,
            )
        check_finished(done)
        return self.run(name)


def check_finished(result: Result) -> None:
    """End the program after a run that stopped early: half-trained, it must not be measured."""
    if result.reason != "finished":
        sys.exit(f"{result.folder.path}: {result.reason}. The same command goes on from there.")


class Examiner:
    """Asks the held-out sums, and judges the answers by those of the SFT run."""

    def __init__(self, chain: Chain, other: Chain | None) -> None:
        """
        Args:
            chain: the runs of the seed that is measured.
            other: those of another seed, whose reward model is the held-out judge; None where no
                reward model judges.
        """
        self.sft, self.tokenizer = load(chain.run("sft"))
        self.judges = {"right": right}
        if other is not None:
            self.judges["reward"] = scorer(chain.run("reward"))
            self.judges["judge"] = scorer(other.run("reward"))
        data = load_recipe(RECIPES / "sft_tiny.toml").data
        self.questions = {row["prompt"]: row["answer"] for row in records(data, "valid")}
        self.before = self.judged(self.sft)

    def __call__(self, run: str) -> Scores:
        """Accuracies, reward and KL of a run, and its wins against SFT."""
        model: Any = load(run)[0]
        sampled = self.judged(model)
        greedy, _ = answered(model, self.tokenizer, self.questions, 0.0)
        found = {"greedy": float(np.mean(right(greedy))), "right": float(sampled["right"].mean())}
        found["kl"] = float(sampled["kl"].mean())
        return found | {
            f"wins by {name}": wins(sampled[name], self.before[name]) for name in self.judges
        }

    def best_of(self, n: int) -> Scores:
        """The wins of the best of n answers of the SFT run by its reward model, whose KL is at
        most `log n - (n - 1) / n` (Stiennon et al. 2020, section 4.3)."""
        rng, size = np.random.default_rng(n), self.before["reward"].shape
        picks = np.stack([rng.permutation(size[1])[:n] for _ in range(size[0] * size[1])])
        picks = picks.reshape(*size, n)
        rows = np.arange(size[0])[:, None, None]
        best = self.before["reward"][rows, picks].argmax(axis=-1)[..., None]
        places = np.take_along_axis(picks, best, axis=-1)[..., 0]
        found = {"kl": math.log(n) - (n - 1) / n}
        for name in self.judges:
            chosen = np.take_along_axis(self.before[name], places, axis=1)
            found[f"wins by {name}"] = wins(chosen, self.before[name])
        return found

    def judged(self, model: Any) -> dict[str, np.ndarray]:
        """Scores of sampled answers by each judge, and their KL, `[questions, DRAWS]` each."""
        answers, logps = answered(model, self.tokenizer, self.questions, 1.0, DRAWS)
        found = {name: judge(answers) for name, judge in self.judges.items()}
        found["kl"] = logps - self.under_sft(answers)
        return {name: value.reshape(-1, DRAWS) for name, value in found.items()}

    def under_sft(self, answers: Sequence[Response]) -> np.ndarray:
        """Log-probabilities of answers under the SFT run."""
        tokens = np.zeros((len(answers), WIDTH + 1), np.int32)
        counted = np.zeros((len(answers), WIDTH), np.float32)
        for row, answer in enumerate(answers):
            both = answer.prompt_tokens + answer.tokens
            tokens[row, : len(both)] = both
            counted[row, len(answer.prompt_tokens) - 1 : len(both) - 1] = 1
        logps = Scorer(self.sft, ROWS, temperature=1.0)(tokens)["logps"]
        return np.array((logps * counted).sum(axis=1))


def answered(
    model: Any,
    tokenizer: Any,
    questions: Mapping[str, str],
    temp: float,
    draws: int = 1,
    max_tokens: int = MAX_TOKENS,
) -> tuple[list[Response], np.ndarray]:
    """Answers to all questions, each with the right one in its record, and the log-probability of
    each."""
    texts = [text for text in questions for _ in range(draws)]
    prompts = [[*tokenizer.prefix, *tokenizer.encode(text)] for text in texts]
    size = min(tokenizer.vocab_size, model.vocab_size)
    engine = ContinuousEngine(model, rows=ROWS, sampling=Sampling(temp), vocab_size=size)
    ends = frozenset({tokenizer.eos_id}) - {None}
    done = engine.complete(prompts, range(len(prompts)), max_tokens=max_tokens, ends=ends)
    answers = []
    for text, prompt, one in zip(texts, prompts, done, strict=True):
        written = tokenizer.decode(one.tokens[:-1] if one.ended else one.tokens)
        record = {"answer": questions[text]}
        answers.append(Response(text, written, prompt, one.tokens, one.ended, record))
    return answers, np.array([sum(one.logps) for one in done])


def scorer(run: str) -> Callable[[Sequence[Response]], np.ndarray]:
    """The reward of a reward model's run."""
    found = ModelReward(kind="model", run=run).build(Judge(*load(run)))
    return lambda answers: np.array(found(answers))


def right(answers: Sequence[Response]) -> np.ndarray:
    """1 for each answer whose number is right, else 0."""
    pairs = [(last_number(one.completion), last_number(one.record["answer"])) for one in answers]
    return np.array([float(said == answer) for said, answer in pairs])


def wins(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of pairs of answers to one question in which ours is better; a tie counts half."""
    apart = ours[:, :, None] - theirs[:, None, :]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def chain_table(options: argparse.Namespace) -> None:
    """All methods at one budget."""
    pairs = examined(options)
    found = {"SFT": [examiner(chain.run("sft")) for chain, examiner in pairs]}
    for name in options.methods:
        if options.no_reward and "reward" in METHODS[name].runs.values():
            continue
        runs = [chain.tune(FOLDERS[name], METHODS[name]) for chain, _ in pairs]
        found[name] = [examiner(run) for run, (_, examiner) in zip(runs, pairs, strict=True)]
        print(f"{name}: {found[name]}", file=sys.stderr)
    named = {
        "right, greedy": "greedy",
        "right, sampled": "right",
        "wins by right answers": "wins by right",
        "by the reward model": "wins by reward",
        "by a held-out judge": "wins by judge",
    }
    columns = {title: key for title, key in named.items() if key in found["SFT"][0]}
    print(f"| | {' | '.join(columns)} | KL, nats | greedy, less the control |")
    print("|---|" + "---|" * (len(columns) + 2))
    for name, rows in found.items():
        cells = [percent([row[key] for row in rows]) for key in columns.values()]
        kl = interval([row["kl"] for row in rows], 1, 2)
        gained = zip(rows, found[CONTROL], strict=True)
        gain = percent([row["greedy"] - control["greedy"] for row, control in gained])
        print(f"| {name} | {' | '.join(cells)} | {kl} | {gain} |")
    if not options.no_reward:
        accuracy = [evaluate(chain.run("reward"))[1]["val_accuracy"] for chain, _ in pairs]
        print(f"\nThe reward models rank {percent(accuracy)} of their held-out pairs rightly.")


def frontier_table(options: argparse.Namespace) -> None:
    """Wins against KL, of PPO by the weight of the KL, and of best-of-n."""
    ppo: dict[float, list[Scores]] = {weight: [] for weight in KL_WEIGHTS}
    best: dict[int, list[Scores]] = {n: [] for n in BEST_OF}
    method = METHODS["PPO, reward model"]
    for chain, examiner in examined(options):
        for weight in KL_WEIGHTS:
            sets = (f"source.kl={weight}", f"train.steps={options.steps}")
            own = Method(method.recipe, method.runs, sets)
            run = chain.tune(f"ppo-kl-{weight}-{options.steps}", own)
            ppo[weight].append(examiner(run))
            print(f"seed {chain.seed}, kl {weight}: {ppo[weight][-1]}", file=sys.stderr)
        for n in BEST_OF:
            best[n].append(examiner.best_of(n))
    judges = {"right": "right answers", "reward": "the reward model", "judge": "a held-out judge"}
    print("| | KL, nats | wins by " + " | by ".join(judges.values()) + " |")
    print("|---|---|" + "---|" * len(judges))
    curves: dict[str, dict[float, float]] = {}
    named = [(f"PPO, kl = {weight:g}", rows) for weight, rows in ppo.items()]
    named += [(f"best of {n}", rows) for n, rows in best.items()]
    for name, rows in named:
        kl = float(np.mean([row["kl"] for row in rows]))
        cells = [percent([row[f"wins by {judge}"] for row in rows]) for judge in judges]
        print(f"| {name} | {interval([row['kl'] for row in rows], 1, 2)} | {' | '.join(cells)} |")
        for judge, what in judges.items():
            line = curves.setdefault(f"{name.split(',')[0].split(' of')[0]}, by {what}", {})
            line[kl] = float(np.mean([row[f"wins by {judge}"] for row in rows]))
    if options.plot:
        lines = {name: dict(sorted(points.items())) for name, points in curves.items()}
        axes = ("KL from the SFT model, nats per answer", "wins against the SFT model")
        measure_curves(lines, options.plot, *axes)


def examined(options: argparse.Namespace) -> list[tuple[Chain, Examiner]]:
    """The chains of all seeds with their bases trained, each with its examiner; the judge of a
    seed is the reward model of the next."""
    seeds = options.seeds
    judges = [*seeds[1:], seeds[0] if len(seeds) > 1 else seeds[0] + 1]
    needed = set(seeds) if options.no_reward else {*seeds, *judges}
    chains = {seed: Chain(options.out.resolve(), seed) for seed in needed}
    for chain in chains.values():
        chain.base(reward=not options.no_reward)
    return [
        (chains[seed], Examiner(chains[seed], None if options.no_reward else chains[judge]))
        for seed, judge in zip(seeds, judges, strict=True)
    ]


def percent(values: Sequence[float]) -> str:
    """Mean and interval of shares, in percent."""
    return interval(values, 100, 1)


def interval(values: Sequence[float], factor: float, digits: int) -> str:
    """Mean and half width of the 95 % interval over seeds."""
    found = estimate([factor * value for value in values])
    error = "" if found.error is None else f" ± {found.error:.{digits}f}"
    return f"{found.mean:.{digits}f}{error}"


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write what trainings print to train.log of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "train.log", "a", encoding="utf-8") as file, redirect_stdout(file):
        yield


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3], help="as in 1,2,3")
    known = ", ".join(FOLDERS.values())
    parser.add_argument(
        "--methods", type=methods, default=list(METHODS), help=f"of the chain, among {known}"
    )
    parser.add_argument(
        "--no-reward",
        action="store_true",
        help="leave out of the chain the reward models, their judgements and what learns from them",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--steps", type=int, default=200, help="of each PPO run of the frontier")
    parser.add_argument("--plot", type=Path, help="the .svg file of the frontier")
    options = parser.parse_args()
    if options.no_reward and options.table == "frontier":
        parser.error("the frontier is of wins by a reward model: leave --no-reward out")
    return options


def seeds(text: str) -> list[int]:
    """The numbers between commas."""
    return [int(part) for part in text.split(",")]


def methods(text: str) -> list[str]:
    """The methods whose folders are named between commas, after the control, which every table
    has."""
    asked = {name.strip() for name in text.split(",")}
    if unknown := asked - set(FOLDERS.values()):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [name for name, folder in FOLDERS.items() if folder in asked or name == CONTROL]


TABLES = {"chain": chain_table, "frontier": frontier_table}
"""The tables by name."""

if __name__ == "__main__":
    options = parsed()
    TABLES[options.table](options)
