"""Hooks of mkdocs: generated pages, navigation, and links from the repository to the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[2]))  # restored by mkdocs

from tools.docs import generated, repository


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the decisions to the navigation."""
    pages = sorted(path.name for path in Path(config.docs_dir, "decisions").glob("[0-9]*.md"))
    for section in _sections(config.nav, "Decisions"):
        section.extend(f"decisions/{name}" for name in pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs/``."""
    for name, markdown in repository.pages().items():
        files.append(File.generated(config, name, content=markdown))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the Markdown of a page with its generated parts and the links of the site."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # would contain only this page
    markdown = repository.rewrite_links(markdown, page.file.src_uri)
    return generated.fill_in(repository.themed_pictures(markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the HTML of a page without the roles that docstrings have before names."""
    return re.sub(r":(?:attr|class|func|meth|mod):(?=<code>)", "", html)


def _sections(nav: object, title: str) -> list[list[str]]:
    """Return the lists of pages of all sections named ``title``."""
    found: list[list[str]] = []
    for entry in nav if isinstance(nav, list) else []:
        for name, content in entry.items() if isinstance(entry, dict) else []:
            found += [content] if name == title else _sections(content, title)
    return found
