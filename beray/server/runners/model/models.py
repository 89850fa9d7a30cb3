"""Construction of models from names such as ``openai:gpt-4o``. Imports only their providers."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from beray.server.runners.model import _pydantic_ai_compat


class UnusableModel(Exception):
    """A model cannot be constructed; the message names the setting and the reason."""


def build(name: str, setting: str) -> Model:
    """Return the model called ``name`` without connecting to its provider.

    ``openai:`` selects OpenAI's Responses API. If ``OPENAI_BASE_URL`` names another host, it
    selects chat completions, which compatible endpoints implement. ``openai-chat:`` and
    ``openai-responses:`` select one API explicitly.

    Importing a provider can take seconds, so call this in a thread.

    Args:
        name: Provider and model, separated by a colon.
        setting: Origin of the name, for messages.

    Raises:
        UnusableModel: The provider is unknown, or its package or API key is missing.
    """
    try:
        compatible = _compatible(name)
        return compatible if compatible is not None else infer_model(name)
    except ImportError as error:
        package = _pydantic_ai_compat.missing_package(error)
        action = f"run pip install '{package}'" if package else "install its package"
        raise UnusableModel(
            f"{setting} is {name!r}, whose provider is not installed: {action} on the server"
        ) from None
    except (UserError, ValueError) as error:
        raise UnusableModel(_problem(name, setting, error)) from None
    except Exception as error:  # noqa: BLE001 - clients of providers raise errors of any type
        reason = str(error).strip().partition("\n")[0][:300]
        raise UnusableModel(f"{setting} is {name!r}, which cannot be used: {reason}") from None


def _problem(name: str, setting: str, error: Exception) -> str:
    """Return the message for an error of pydantic-ai."""
    if _pydantic_ai_compat.is_unknown_model(error) or ":" not in name:
        close = _pydantic_ai_compat.suggested_model(error)
        hint = f" (did you mean {close}?)" if close else ""
        return (
            f"{setting} is {name!r}, which is not a known model; "
            f"use a provider and a model, such as openai:gpt-4o{hint}"
        )
    if variables := _pydantic_ai_compat.missing_variables(error):
        return (
            f"{setting} is {name!r}, which requires {' or '.join(variables)} to be set on the "
            "server"
        )
    return f"{setting} is {name!r}, which cannot be used: {str(error).partition(chr(10))[0][:300]}"


def _compatible(name: str) -> Model | None:
    """Return the model at ``OPENAI_BASE_URL``, or None if that is unset or OpenAI's own host."""
    provider, _, model = name.partition(":")
    url = os.environ.get("OPENAI_BASE_URL", "").strip()
    if provider not in ("openai", "openai-chat") or not model or not url or _is_openai(url):
        return None
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    # If both variables are set, the key belongs to this endpoint. A local one may need no key.
    key = os.environ.get("OPENAI_API_KEY") or None
    # With the name "openai", prices of OpenAI's models are found for proxies of OpenAI as well.
    endpoint = OpenAICompatibleProvider("openai", base_url=url, api_key=key)
    return OpenAIChatModel(model, provider=endpoint)


def _is_openai(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")
