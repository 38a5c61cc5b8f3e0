"""`mlxt schema`."""

import json


def schema() -> None:
    """Print the JSON schema of recipes, for editors.

    With it an editor completes the keys of a recipe and says what they mean: write it with
    mlxt schema > recipe.schema.json and begin a recipe with the line
    #:schema ./recipe.schema.json (Even Better TOML, Taplo).
    """
    from ..assembly.recipe import Recipe
    from ..recipe.schema import json_schema

    print(json.dumps(json_schema(Recipe), indent=2, ensure_ascii=False))
