"""`experiments/` on Hydra's search path: every folder is a group, and `collections` names them all.

With an absolute path, because a relative `hydra.searchpath` would depend on the working directory,
and its groups would neither be listed by `--help` nor found by `glob(*)`.
"""

from pathlib import PurePosixPath
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from esr import config

COLLECTIONS = "collections"
"""A configuration without a file: a defaults list with every collection, nothing chosen."""


class Recipes(FileConfigSource):
    """As train.py sees the folder: a recipe a file; what is true of a collection is none."""

    @staticmethod
    def scheme() -> str:
        return "recipes"

    def is_config(self, config_path: str) -> bool:
        path = PurePosixPath(config_path)
        is_recipe = path.stem != config.COLLECTION and super().is_config(config_path)
        return is_recipe or str(path.with_suffix("")) == COLLECTIONS

    def load_config(self, config_path: str) -> ConfigResult:
        if PurePosixPath(config_path).stem == COLLECTIONS:
            return self._made({"defaults": [{name: None} for name in config.collections()]})
        return super().load_config(config_path)

    def _made(self, content: dict[str, Any]) -> ConfigResult:
        header: dict[str, str | None] = {"package": "_global_"}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(content), header)


class Entries(Recipes):
    """As evaluate.py sees it: the name of a published network, and nothing of its recipe."""

    @staticmethod
    def scheme() -> str:
        return "entries"

    def is_config(self, config_path: str) -> bool:
        path = PurePosixPath(config_path).with_suffix("")
        offered = str(path) == COLLECTIONS or (
            len(path.parts) == 2 and path.name in config.offered(path.parts[0])
        )
        return offered and super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        path = PurePosixPath(config_path).with_suffix("")
        if path.name == COLLECTIONS:
            return super().load_config(config_path)
        return self._made({"entry": str(path)})


class ExperimentsSearchPath(SearchPathPlugin):
    """Puts the folder behind conf/, whose names win."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        view = Entries if config.command == "evaluate" else Recipes
        search_path.append("esr", f"{view.scheme()}://{config.experiments_dir()}")
