"""I-BERT: RoBERTa that can be computed in whole numbers; here it is as it was before that.

Defaults are those of `IBertConfig`.
"""

from functools import partial

from ..config import HfConfig
from ..family import Family, Table
from .bert import model as roberta
from .bert import robertas

BEFORE = robertas("ibert", prefix="ibert.", title="IBert")
COUNTED = "act_scaling_factor|fc_scaling_factor|weight_scaling_factor|x_max|x_min|shift"


def model(config: HfConfig) -> Table:
    """The `[model]` table of an IBertConfig."""
    config.expect("quant_mode", False)
    config.ignore("force_dequant")
    return partial(roberta, vocab_size=30522, pad=1)(config)


IBERT = Family(
    model_types=BEFORE.model_types,
    architecture=BEFORE.architecture,
    model=model,
    weights=BEFORE.weights,
    config=BEFORE.config,
    renames=BEFORE.renames,
    dropped=(rf"\.({COUNTED}|weight_integer|bias_integer)$",),
    spare=BEFORE.spare,
    tied=BEFORE.tied,
)
