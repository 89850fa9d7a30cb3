"""Pages made of files outside ``docs/``, and links that work in the repository and on the site.

The documents link to files by their path in the repository, as Git hosts expect it. The site has
other addresses for some of these files, and does not contain others; no public address of the
repository exists. Links to the latter become the path of the file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

DOCUMENTS: Final = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "README.zh-CN.md": "project/readme.zh-CN.md",
    "SECURITY.md": "project/security.md",
}
"""Documents of the repository's root, with their names on the site."""

_EXAMPLES: Final = {
    "examples/first_steps.py": "project/examples/first_steps.md",
    "examples/chat_bot.py": "project/examples/chat_bot.md",
    "examples/gateway_service.py": "project/examples/gateway_service.md",
    "examples/prefabs/word-report": "project/examples/word-report.md",
}
_MOVED: Final = {"README.md": "index.md", **DOCUMENTS, **_EXAMPLES}
_SITE_DIRECTORY: Final = "docs/"
_LANGUAGES: Final = {".py": "python", ".toml": "toml", ".json": "json", ".md": "markdown"}

_FENCE: Final = r"^( *)(```+|~~~+).*?^\1\2`*$"
_CODE_SPAN: Final = r"(?<!`)(`+)(?!`).+?(?<!`)\3(?!`)"
_CODE: Final = re.compile(f"{_FENCE}|{_CODE_SPAN}", re.M | re.S)
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")

_PICTURE: Final = re.compile(r"(!\[[^\]]*\]\((?:\.\./)*pictures/[\w-]+)\.svg\)")
_FILE_NAME: Final = re.compile(r"[\w.-]+\.md")


def pages() -> dict[str, str]:
    """Return the Markdown of all pages that are made of other files, by their name on the site."""
    documents = {name: (ROOT / path).read_text("utf-8") for path, name in DOCUMENTS.items()}
    return documents | {name: _example_page(path) for path, name in _EXAMPLES.items()}


def repository_path(page: str) -> str:
    """Return the path in the repository of the file that the page ``page`` is made of."""
    for path, name in _MOVED.items():
        if name == page and path != "README.md":
            return path
    return _SITE_DIRECTORY + page


def rewrite_links(markdown: str, page: str) -> str:
    """Return the Markdown of ``page`` with links for the site instead of the repository.

    Links whose text is the name of a document get its title instead.
    """
    source = repository_path(page)
    return outside_code(markdown, lambda text: _LINK.sub(lambda m: _link(m, page, source), text))


def themed_pictures(markdown: str) -> str:
    """Return the Markdown with the light variant of each picture, for the light theme of the site.

    The pictures in ``docs/pictures/`` are dark; ``NAME-light.svg`` is the light variant.
    """
    return outside_code(
        markdown, lambda text: _PICTURE.sub(r"\1.svg#only-dark)\1-light.svg#only-light)", text)
    )


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return ``markdown`` with ``change`` applied to the parts that are not code.

    A link's text may contain code, so that code spans in it are kept out of the way by a
    placeholder and restored afterwards.
    """
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    changed = change(_CODE.sub(keep, markdown))
    return re.sub("\x00([0-9]+)\x00", lambda match: kept[int(match[1])], changed)


def _link(match: re.Match[str], page: str, source: str) -> str:
    image, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return match[0]
    absolute = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    name = _MOVED.get(absolute)
    if name is None and not f"{absolute}/".startswith(_SITE_DIRECTORY):
        return f"{text} (`{absolute}`)" if absolute not in text else text
    if name is None:
        name = absolute.removeprefix(_SITE_DIRECTORY)
    if _FILE_NAME.fullmatch(text):
        text = _title(absolute) or text
    address = posixpath.relpath(name, posixpath.dirname(page) or ".")
    return f"{image}[{text}]({address}{'#' if anchor else ''}{anchor})"


def _title(path: str) -> str | None:
    """Return the title of a document, or None if it has none."""
    document = ROOT / path
    if not document.is_file():
        return None
    heading = re.search(r"^# (.+)$", document.read_text("utf-8"), re.M)
    return heading[1] if heading else None


def _example_page(path: str) -> str:
    example = ROOT / path
    files = sorted(example.rglob("*")) if example.is_dir() else [example]
    shown = [file for file in files if file.suffix in _LANGUAGES]
    parts = [f"# {example.name}\n\nThe directory `{path}` of the repository.\n"]
    if not example.is_dir():
        parts = [f"# {example.name}\n\nThe file `{path}` of the repository.\n"]
    for file in shown:
        language = _LANGUAGES[file.suffix]
        if example.is_dir():
            parts.append(f"## {file.relative_to(example).as_posix()}\n")
        parts.append(f"````{language}\n{file.read_text('utf-8').rstrip()}\n````\n")
    return "\n".join(parts)
