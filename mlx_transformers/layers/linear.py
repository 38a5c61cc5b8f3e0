"""The one projection that initialisation must be able to tell apart."""

import mlx.nn as nn


class ResidualLinear(nn.Linear):
    """A linear map that writes into the residual stream.

    It computes what `nn.Linear` computes; its type tells the initialiser which weights to scale
    with depth (GPT-2: Radford et al. 2019, section 2.3).
    """
