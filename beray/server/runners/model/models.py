"""From a name such as ``openai:gpt-4o`` to a model. Only its provider is imported."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import urlsplit

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

_VARIABLE: Final = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
_PACKAGE: Final = re.compile(r"pip install \"?(pydantic-ai-slim\[[\w-]+\])")


class UnusableModel(Exception):
    """The name leads to no model; the text says which setting is wrong, and how."""


def build(name: str, setting: str) -> Model:
    """Return the model called ``name``; it has not been asked anything yet.

    ``openai:`` means OpenAI's Responses API, and chat completions where
    ``OPENAI_BASE_URL`` leads elsewhere: that is what compatible endpoints speak.
    ``openai-chat:`` and ``openai-responses:`` are always what they say.

    Imports of a provider can take seconds: call this in a thread.

    Args:
        setting: what the name comes from, for the message.

    Raises:
        UnusableModel: no such provider, its package or its key is not there, …
    """
    try:
        compatible = _compatible(name)
        return compatible if compatible is not None else infer_model(name)
    except ImportError as error:
        package = _PACKAGE.search(str(error))
        what = f"pip install '{package[1]}'" if package else "install the package of its provider"
        raise UnusableModel(
            f"{setting} is {name!r}, whose provider is not installed: {what} where the server runs"
        ) from None
    except (UserError, ValueError) as error:
        raise UnusableModel(_problem(name, setting, str(error))) from None
    except Exception as error:  # noqa: BLE001 - a provider's client refuses in a way of its own
        first = str(error).strip().partition("\n")[0][:300]
        raise UnusableModel(f"{setting} is {name!r}, and it cannot be used: {first}") from None


def _problem(name: str, setting: str, said: str) -> str:
    if said.startswith("Unknown model") or ":" not in name:
        close = re.search(r"Did you mean '([^']+)'", said)
        hint = f" Did you mean {close[1]}?" if close else ""
        return (
            f"{setting} is {name!r}, which names no model that is known here; "
            f"give a provider and a model, such as openai:gpt-4o.{hint}"
        )
    variables = list(dict.fromkeys(_VARIABLE.findall(said)))
    if variables:
        return (
            f"{setting} is {name!r}, which needs {' or '.join(variables)} to be set on the server"
        )
    return f"{setting} is {name!r}, and it cannot be used: {said.partition(chr(10))[0][:300]}"


def _compatible(name: str) -> Model | None:
    """A model of the endpoint that ``OPENAI_BASE_URL`` names, unless that is OpenAI's own."""
    provider, _, model = name.partition(":")
    url = os.environ.get("OPENAI_BASE_URL", "").strip()
    if provider not in ("openai", "openai-chat") or not model or not url or _is_openai(url):
        return None
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    # Who sets both variables means this key for this endpoint. A local one may need none.
    key = os.environ.get("OPENAI_API_KEY") or None
    # By this name the prices of OpenAI's models are found behind a proxy as well.
    provider_there = OpenAICompatibleProvider("openai", base_url=url, api_key=key)
    return OpenAIChatModel(model, provider=provider_there)


def _is_openai(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")
