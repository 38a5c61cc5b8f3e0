"""Rows of the slot `scaling`: rotary frequencies changed after training."""

from .suite import Change, Row, itself


def scaling(name: str, **config: object) -> Row:
    grows = name == "dynamic"
    return Row("scaling", name, config, sees=itself, pads=not grows, compiled=grows)


DIVISORS = (1.0, 1.5, 2.0, 3.0)
YARN = {"kind": "yarn", "factor": 4.0, "trained_len": 64, "beta_fast": 8.0}

ROWS = [
    scaling("linear", kind="linear", factor=4.0),
    scaling("dynamic", kind="dynamic", factor=2.0, trained_len=4),
    scaling("dynamic within training", kind="dynamic", factor=2.0, trained_len=16),
    scaling("llama3", kind="llama3", factor=8.0, trained_len=64),
    scaling("yarn", **YARN),
    scaling("yarn not rounded", **YARN | {"truncate": False, "magnitude": 1.5}),
    scaling("yarn without blend", **YARN | {"trained_len": 2}),
    scaling("longrope short", kind="longrope", trained_len=16, short=DIVISORS, long=(9.0,) * 4),
    scaling(
        "longrope long",
        kind="longrope",
        trained_len=8,
        short=(9.0,) * 4,
        long=DIVISORS,
        magnitude=1.2,
    ),
    scaling("inclusive", kind="inclusive"),
]

CHANGES = {
    "inclusive": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 3.0, "trained_len": 6},
    "llama3": {"factor": 4.0, "trained_len": 32, "low": 2.0, "high": 8.0},
    "yarn": {
        "factor": 2.0,
        "trained_len": 32,
        "beta_fast": 2.0,
        "beta_slow": 2.0,
        "truncate": False,
        "magnitude": 2.0,
    },
    "longrope": {
        "trained_len": 8,
        "short": (1.0, 1.0, 2.0, 2.0),
        "long": Change((1.0, 1.0, 2.0, 2.0), row="longrope long"),
        "magnitude": 2.0,
        "reread": Change(False, result=False),
    },
}
