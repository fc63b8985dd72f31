"""The packaged recipes: experiment files that are installed with the package and are used by name."""

import importlib.resources
from importlib.resources.abc import Traversable

from boneage.base.errors import suggest_closest
from boneage.configuration.build import ConfigError

_SUFFIX = ".toml"


def list_recipes() -> dict[str, str]:
    """List the packaged recipes.

    Returns:
        The title of each recipe by its name, in alphabetical order.
    """
    return {
        name: path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ") for name, path in _find_recipes().items()
    }


def read_recipe(name: str) -> str:
    """Read a packaged recipe.

    Args:
        name: Name of the recipe, such as `"rsna_lite0"`.

    Returns:
        The content of its TOML file.

    Raises:
        ConfigError: If there is no such recipe.
    """
    recipes = _find_recipes()
    if name not in recipes:
        raise ConfigError(
            f"{name}: neither a file nor a packaged recipe.{suggest_closest(name, recipes)} "
            "`boneage recipes` lists them."
        )
    return recipes[name].read_text(encoding="utf-8")


def _find_recipes() -> dict[str, Traversable]:
    files = importlib.resources.files("boneage.recipes").iterdir()
    found = {path.name.removesuffix(_SUFFIX): path for path in files if path.name.endswith(_SUFFIX)}
    return dict(sorted(found.items()))
