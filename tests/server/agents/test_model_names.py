"""Construction of models from names, and messages about unusable models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from beray.server.runners.base import Outcome
from beray.server.runners.model import models
from tests.server.agents.model_bench import Bench

KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_API_KEY",
)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt", ["BERAY_MODEL is 'gpt'", "openai:gpt-4o"]),
        ("nosuch:gpt-4o", ["'nosuch:gpt-4o'", "not a known model"]),
        ("openai:gpt-4o", ["OPENAI_API_KEY"]),
        ("anthropic:claude-opus-4-8", ["ANTHROPIC_API_KEY"]),
        ("google:gemini-4-carbon", ["GOOGLE_API_KEY"]),
        ("groq:qwen/qwen3.8-27b", ["pydantic-ai-slim[groq]", "not installed"]),
        (":", ["':'"]),
    ],
)
async def test_an_unusable_model_is_reported(tmp_path: Path, name: str, words: list[str]) -> None:
    bench = await Bench.make(tmp_path, model=name)
    assert await bench.run() == Outcome("FAILED", "model")
    [(code, details)] = bench.sink.errors()
    assert code == "MODEL"
    assert all(word in details for word in words), details
    assert "Agent(" not in details
    assert details.endswith(".") and details[-2] not in ".?", details
    assert len(bench.sink.events) == 1
    assert bench.sink.usages == []


async def test_the_origin_of_an_unusable_model_is_reported(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    await bench.run(job_model="nosuch:x")
    assert bench.sink.errors()[0][1].startswith("The model of this task is 'nosuch:x'")


async def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path)
    assert await bench.run() == Outcome("FAILED", "model")
    assert "BERAY_MODEL" in bench.sink.errors()[0][1]


@pytest.mark.parametrize(
    ("name", "url", "kind"),
    [
        ("openai:gpt-4o", "", "OpenAIResponsesModel"),
        ("openai:gpt-4o", "https://api.openai.com/v1", "OpenAIResponsesModel"),
        ("openai:gpt-4o", "https://eu.api.openai.com/v1", "OpenAIResponsesModel"),
        ("openai:gpt-4o", "http://127.0.0.1:1/v1", "OpenAIChatModel"),
        ("openai:gpt-4o", "https://notopenai.com/v1", "OpenAIChatModel"),
        ("openai-chat:gpt-4o", "", "OpenAIChatModel"),
        ("openai-chat:gpt-4o", "http://127.0.0.1:1/v1", "OpenAIChatModel"),
        ("openai-responses:gpt-4o", "http://127.0.0.1:1/v1", "OpenAIResponsesModel"),
        ("anthropic:claude-opus-4-8", "http://127.0.0.1:1/v1", "AnthropicModel"),
    ],
)
def test_the_api_depends_on_the_name_and_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, kind: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-y")
    if url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    model = models.build(name, "BERAY_MODEL")
    assert type(model).__name__ == kind
    assert model.model_name == name.partition(":")[2]
    if kind == "OpenAIChatModel" and url:
        assert str(model.base_url).rstrip("/") == url


def test_only_the_requested_provider_is_imported() -> None:
    script = (
        "import sys\n"
        "from beray.server.runners.model import models\n"
        "assert not {'openai', 'anthropic', 'google.genai', 'fastmcp'} & set(sys.modules)\n"
        "models.build('openai:x', 'BERAY_MODEL')\n"
        "assert 'openai' in sys.modules\n"
        "assert not {'anthropic', 'google.genai', 'fastmcp', 'logfire'} & set(sys.modules)\n"
    )
    env = {"OPENAI_API_KEY": "sk-x", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", script], check=True, env=env, timeout=60)
