"""What a manifest says of its functions, and what they are."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

from beray.server.prefabs.registry import load_prefab
from tests.prefabs.included import FOLDERS, manifest, module

NAMES = [f"{folder.parent.name}@{folder.name}" for folder in FOLDERS]


def test_the_three_are_there() -> None:
    assert {folder.parent.name for folder in FOLDERS} == {"document-text", "image", "table"}


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_a_manifest_fits_its_folder_and_its_module(folder: Path) -> None:
    said = manifest(folder)
    assert (said["prefab"]["id"], said["prefab"]["version"]) == (folder.parent.name, folder.name)
    made = module(folder)
    for name, function in said["functions"].items():
        written = getattr(made, name)
        call, *parameters = inspect.signature(written).parameters.values()
        assert call.name == "call"
        properties = function["parameters"].get("properties", {})
        assert [one.name for one in parameters] == list(properties), name
        assert function["streaming"] == inspect.isgeneratorfunction(written)
        needed = []
        for one in parameters:
            assert one.kind is inspect.Parameter.KEYWORD_ONLY
            schema = properties[one.name]
            assert schema["description"]
            if one.default is inspect.Parameter.empty:
                needed.append(one.name)
            else:
                given = list(one.default) if isinstance(one.default, tuple) else one.default
                assert given == schema["default"], (name, one.name)
        assert needed == function["parameters"].get("required", [])


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_a_manifest_is_taken_as_that_of_a_stranger(folder: Path) -> None:
    """A server does not look at these schemas again."""
    assert load_prefab(folder, is_official=False).version.text == folder.name


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_what_a_prefab_needs_comes_with_the_extra(folder: Path) -> None:
    extra = [
        re.split(r"[<>\[ ;]", line)[0]
        for line in importlib.metadata.requires("beray") or []
        if 'extra == "prefabs"' in line or "extra == 'prefabs'" in line
    ]
    for name in manifest(folder)["prefab"]["requires"]:
        assert name in extra
        importlib.metadata.version(name)


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_each_has_files_in_and_out_and_something_that_streams(folder: Path) -> None:
    functions = manifest(folder)["functions"].values()
    assert any(each["streaming"] for each in functions)
    files = [each["files"] for each in functions]
    assert any(each.get("inputs") and each.get("outputs") for each in files)
