"""Array types with shapes, and the one legend of dimension letters. A file may not redefine one.

| letter | meaning            | letter | meaning          | letter | meaning         |
|--------|--------------------|--------|------------------|--------|-----------------|
| `B`    | batch              | `G`    | key/value heads  | `L`    | layers          |
| `T`    | target length      | `K`    | head width       | `N`    | state size      |
| `S`    | source length      | `V`    | vocabulary       | `R`    | low rank        |
| `D`    | model width        | `F`    | ffn width        | `M`    | chunk           |
| `H`    | query heads        | `E`    | experts          | `P`    | patches         |
|        |                    | `C`    | expert capacity  |        |                 |

In functions of rows, `N` counts the rows: tokens of all sequences together. A type is named by its
letters: `h: ND` is an array `[N, D]` of floating point numbers, `targets: IntN` one of integers; a
small `x` stands for any leading dimensions, `_` for one of any size. Equal letters in one signature
are equal sizes.

The test run checks every call of a function with such a signature (tests/checked_shapes.py); the
types are jaxtyping's. Elsewhere they are plain `mx.array`, and jaxtyping isn't imported.
"""

import os
from typing import TYPE_CHECKING, Any

import mlx.core as mx

CHECKED = "MLXT_CHECK_SHAPES"
"""Environment variable that makes the types checkable; set by tests/conftest.py."""

if TYPE_CHECKING:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Integer
elif os.environ.get(CHECKED):
    from jaxtyping import Bool, Float, Integer
else:

    class Unchecked:
        """`Float[mx.array, "B T D"]` as `mx.array` alone."""

        def __class_getitem__(cls, item: object) -> Any:
            return item[0]

    Bool = Float = Integer = Unchecked

Array = mx.array

# rows of features
N = Float[Array, "N"]
V = Float[Array, "V"]
D = Float[Array, "D"]
ND = Float[Array, "N D"]
NV = Float[Array, "N V"]
NE = Float[Array, "N E"]
VD = Float[Array, "V D"]
IntN = Integer[Array, "N"]
BoolNE = Bool[Array, "N E"]

# any leading dimensions
x = Float[Array, "*x"]
x1 = Float[Array, "*x 1"]
xD = Float[Array, "*x D"]
xV = Float[Array, "*x V"]
Intx = Integer[Array, "*x"]

# attention; values may have another width than queries and keys
BHTK = Float[Array, "B H T K"]
BHSK = Float[Array, "B H S K"]
BGSK = Float[Array, "B G S K"]
BHT_ = Float[Array, "B H T _"]
BGS_ = Float[Array, "B G S _"]
BHTN = Float[Array, "B H T N"]
BHTS = Float[Array, "B H T S"]
H = Float[Array, "H"]
IntTS = Integer[Array, "T S"]
BGTK = Float[Array, "B G T K"]
HK = Float[Array, "H K"]
BHT = Float[Array, "B H T"]

# sequences
BTD = Float[Array, "B T D"]
BSD = Float[Array, "B S D"]
BT_ = Float[Array, "B T _"]
BS_ = Float[Array, "B S _"]
BTS = Float[Array, "B T S"]
B = Float[Array, "B"]
BT = Float[Array, "B T"]
IntBT = Integer[Array, "B T"]
BoolBT = Bool[Array, "B T"]
BD = Float[Array, "B D"]
B3D = Float[Array, "B 3 D"]
H_K = Float[Array, "H _ K"]
BTx = Float[Array, "B T ..."]
Bx = Float[Array, "B ..."]
