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


class Collections(FileConfigSource):
    """train.py sees a recipe a file; evaluate.py the name of a published network, and no recipe."""

    @staticmethod
    def scheme() -> str:
        return "collections"

    def is_config(self, config_path: str) -> bool:
        path = PurePosixPath(config_path).with_suffix("")
        if str(path) == COLLECTIONS:
            return True
        offered = len(path.parts) == 2 and path.name in config.offered(path.parts[0])
        return offered and super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        path = PurePosixPath(config_path).with_suffix("")
        if str(path) == COLLECTIONS:
            content: dict[str, Any] = {"defaults": [{name: None} for name in config.collections()]}
        elif config.command == "evaluate":
            content = {"entry": str(path)}
        else:
            return super().load_config(config_path)
        header: dict[str, str | None] = {"package": "_global_"}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(content), header)


class ExperimentsSearchPath(SearchPathPlugin):
    """Puts the folder behind conf/, whose names win."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("esr", f"{Collections.scheme()}://{config.experiments_dir()}")
