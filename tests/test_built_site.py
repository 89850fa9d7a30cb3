"""Tests of the built documentation site. They need the dependency group ``docs``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.built_site import BuiltSite, Load

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.docs, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> BuiltSite:
    """Return the site, built without warnings."""
    directory = tmp_path_factory.mktemp("documentation") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return BuiltSite(directory)


def test_every_link_leads_to_a_page_and_an_anchor(site: BuiltSite) -> None:
    assert len(site.pages) > 50
    assert sum(len(page.links) for page in site.pages.values()) > 2000
    assert not list(site.broken_links())


def test_nothing_is_loaded_from_other_hosts(site: BuiltSite) -> None:
    assert not list(site.loads_from_other_hosts())


def test_pictures_have_a_variant_for_each_theme(site: BuiltSite) -> None:
    text = (site.directory / "guides" / "dashboard.html").read_text("utf-8")
    dark = re.findall(r"pictures/([\w-]+)\.svg#only-dark", text)
    assert "dashboard" in dark
    assert re.findall(r"pictures/([\w-]+)-light\.svg#only-light", text) == dark
    for name in dark:
        for variant in (name, f"{name}-light"):
            assert (site.directory / "pictures" / f"{variant}.svg").exists()


def test_no_comment_of_a_generator_is_left(site: BuiltSite) -> None:
    for path in site.pages:
        text = path.read_text("utf-8")
        assert "<!-- generated" not in text, path
        assert "\n::: " not in text, path


def test_the_search_works_without_a_server(site: BuiltSite) -> None:
    script = (site.directory / "search" / "search_index.js").read_text("utf-8")
    index = json.loads(script.removeprefix("var __index = "))
    assert index["config"]["lang"] == ["en"]  # other languages load further scripts
    texts = {entry["location"]: entry["title"] + entry["text"] for entry in index["docs"]}
    found = {location for location, text in texts.items() if "budget" in text.lower()}
    assert {"reference/settings.html#budgets"} <= found
    page = (site.directory / "reference" / "settings.html").read_text("utf-8")
    assert 'src="../assets/iframe-worker.js"' in page


def test_checks_find_broken_links_and_loads(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="a">A</h1><a href="#a">1</a><a href="#b">2</a><a href="b.html#c">3</a>'
        '<a href="../outside.html">4</a><a href="none.html">5</a><a href="https://e.org/">6</a>'
        '<img src="https://a.example/p.png"><script src="//b.example/s.js"></script>'
        '<style>@import "https://c.example/c.css";</style><script>fetch("https://d.example/")</script>'
        '<pre class="mermaid">x</pre>'
    )  # fmt: skip
    (tmp_path / "b.html").write_text('<p id="c">')
    (tmp_path.parent / "outside.html").write_text("")
    (tmp_path / "s.css").write_text("p { background: url(https://e.example/x.png) }")
    (tmp_path / "s.js").write_text('import("https://f.example/x.js") /*! https://g.example/ */')
    found = BuiltSite(tmp_path)
    broken = {link for _, link in found.broken_links()}
    assert broken == {"#b", "../outside.html", "none.html"}
    assert set(found.loads_from_other_hosts()) == {
        Load("index.html", "https://a.example"),
        Load("index.html", "//b.example"),
        Load("index.html", "https://c.example/c.css"),
        Load("index.html", "https://d.example"),
        Load("s.css", "https://e.example/x.png"),
        Load("s.js", "https://f.example/x.js"),
        Load("a page", "https://unpkg.com/mermaid@11/dist/mermaid.min.js"),
    }


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the files of which a package is built, without the site."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("beray", "tui"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    yield copy
    shutil.rmtree(copy)


def built_wheel(project: Path) -> set[str]:
    """Build a wheel from a source archive, and return the names of its files."""
    output = project.parent / "dist"
    subprocess.run(["uv", "build", "--quiet", "--out-dir", str(output), str(project)], check=True)
    (wheel,) = output.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_contains_the_site_if_it_has_been_built(project: Path, site: BuiltSite) -> None:
    without = built_wheel(project)
    assert "beray/cli/commands/docs.py" in without
    assert not {name for name in without if name.startswith("beray/documentation/")}
    shutil.copytree(site.directory, project / "site")
    assert built_wheel(project) - without >= {
        "beray/documentation/index.html",
        "beray/documentation/reference/settings.html",
        "beray/documentation/search/search_index.js",
    }
