"""The one legend of dimension letters. A file may not redefine one.

| letter | meaning            | letter | meaning          | letter | meaning         |
|--------|--------------------|--------|------------------|--------|-----------------|
| `B`    | batch              | `G`    | key/value heads  | `L`    | layers          |
| `T`    | target length      | `K`    | head width       | `N`    | state size      |
| `S`    | source length      | `V`    | vocabulary       | `R`    | low rank        |
| `D`    | model width        | `F`    | ffn width        | `M`    | chunk           |
| `H`    | query heads        | `E`    | experts          | `P`    | patches         |
|        |                    | `C`    | expert capacity  |        |                 |
"""
