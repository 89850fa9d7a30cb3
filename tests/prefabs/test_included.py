"""The manifests of the included prefabs agree with their functions."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

from beray.server.prefabs.registry import load_prefab
from tests.prefabs.included import DIRECTORIES, manifest, module

NAMES = [f"{directory.parent.name}@{directory.name}" for directory in DIRECTORIES]


def test_three_prefabs_are_included() -> None:
    assert {directory.parent.name for directory in DIRECTORIES} == {
        "document-text",
        "image",
        "table",
    }


@pytest.mark.parametrize("directory", DIRECTORIES, ids=NAMES)
def test_a_manifest_agrees_with_its_directory_and_module(directory: Path) -> None:
    declared = manifest(directory)
    assert (declared["prefab"]["id"], declared["prefab"]["version"]) == (
        directory.parent.name,
        directory.name,
    )
    imported = module(directory)
    for name, function in declared["functions"].items():
        implementation = getattr(imported, name)
        call, *parameters = inspect.signature(implementation).parameters.values()
        assert call.name == "call"
        properties = function["parameters"].get("properties", {})
        assert [each.name for each in parameters] == list(properties), name
        assert function["streaming"] == inspect.isgeneratorfunction(implementation)
        required = []
        for parameter in parameters:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            schema = properties[parameter.name]
            assert schema["description"]
            if parameter.default is inspect.Parameter.empty:
                required.append(parameter.name)
            else:
                default = parameter.default
                default = list(default) if isinstance(default, tuple) else default
                assert default == schema["default"], (name, parameter.name)
        assert required == function["parameters"].get("required", [])


@pytest.mark.parametrize("folder", DIRECTORIES, ids=NAMES)
def test_a_manifest_is_taken_as_that_of_a_stranger(folder: Path) -> None:
    """A server does not look at these schemas again."""
    assert load_prefab(folder, is_official=False).version.text == folder.name


@pytest.mark.parametrize("directory", DIRECTORIES, ids=NAMES)
def test_the_extra_installs_the_requirements_of_a_prefab(directory: Path) -> None:
    extra = [
        re.split(r"[<>\[ ;]", line)[0]
        for line in importlib.metadata.requires("beray") or []
        if 'extra == "prefabs"' in line or "extra == 'prefabs'" in line
    ]
    for name in manifest(directory)["prefab"]["requires"]:
        assert name in extra
        importlib.metadata.version(name)


@pytest.mark.parametrize("directory", DIRECTORIES, ids=NAMES)
def test_each_prefab_has_input_and_output_files_and_a_streaming_function(directory: Path) -> None:
    functions = manifest(directory)["functions"].values()
    assert any(each["streaming"] for each in functions)
    files = [each["files"] for each in functions]
    assert any(each.get("inputs") and each.get("outputs") for each in files)
