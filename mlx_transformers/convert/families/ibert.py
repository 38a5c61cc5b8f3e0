"""I-BERT: RoBERTa that can be computed in whole numbers; here it is as it was before that.

Defaults are those of `IBertConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from .bert import roberta, roberta_family

BEFORE = roberta_family("ibert", prefix="ibert.", title="IBert")
COUNTED = "act_scaling_factor|fc_scaling_factor|weight_scaling_factor|x_max|x_min|shift"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an IBertConfig."""
    config.expect("quant_mode", False)
    config.ignore("force_dequant")
    return roberta(config)


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
