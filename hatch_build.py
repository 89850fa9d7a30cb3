"""Build hook: packages contain the documentation site if it has been built before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DocumentationHook(BuildHookInterface[Any]):
    """Include ``site/``: as ``beray/documentation`` in wheels, as ``site`` in source archives."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the site to the files of the build. An editable installation finds it in place."""
        site = Path(self.root, "site")
        if version == "editable" or not (site / "index.html").is_file():
            return
        target = "beray/documentation" if self.target_name == "wheel" else "site"
        build_data["force_include"][str(site)] = target
