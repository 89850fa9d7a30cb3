"""Classification of the ends of a model's answers.

====================  =========================================================================
end                   outcome
====================  =========================================================================
stop, tool calls      the run continues, or is ``COMPLETED``
length                ``FAILED``, reason ``truncated``; the text is kept, no tool is called
content filter        ``FAILED``, reason ``filtered``
refusal               ``FAILED``, reason ``refused``; the refusal is in the error
empty                 ``FAILED``, reason ``empty``; after tool calls ``COMPLETED``
no final marker       the answer is incomplete and requested again, like after a lost connection
no stream             the same; a web page, which a wrong base URL leads to, is not requested again
====================  =========================================================================
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

from beray.sanitize import one_line
from beray.server.runners.model.provider_errors import extract_message

_MARKS: Final = ("finish_reason", "refusal", "block_reason")
"""Provider details that a response has only after its end."""
_WITHOUT_MARKS: Final = frozenset({"snowflake", "xai"})
"""Providers whose finish reasons are not among the details; snowflake's streams can lack them."""
_REFUSAL_CHARACTERS: Final = 1000
_REPLY_CHARACTERS: Final = 200
_EVENT: Final = re.compile(r"(data|event|id|retry)?:")
"""Beginning of an event stream."""
_ERROR: Final = re.compile(r'^data: ?(\{ ?"error":.*\})\r?$', re.MULTILINE)
"""Error in an event stream. Some SDKs ignore it unless the event's type is "error"."""


class IncompleteAnswer(ModelAPIError):
    """The stream of an answer ended without its final marker.

    Args:
        model_name: Name of the model.
        received: Beginning of the response body.

    Attributes:
        is_page: Whether the response is a web page.
    """

    def __init__(self, model_name: str, received: str = "") -> None:
        received = received.lstrip("\ufeff \t\r\n")
        self.is_page = received.startswith("<")
        super().__init__(model_name, _reason(received, is_page=self.is_page))


def _reason(received: str, *, is_page: bool) -> str:
    """Return why an answer is incomplete, from the beginning of the response body."""
    if is_page:
        title = one_line(extract_message(received), _REPLY_CHARACTERS)
        return (
            f"the response is a web page instead of a stream: {title!r}. "
            "Check the provider's base URL"
        )
    if received and not _EVENT.match(received):
        message = one_line(extract_message(received), _REPLY_CHARACTERS)
        if message.startswith(("{", "[")):
            return "the response is JSON without a message instead of a stream"
        return f"the response is a message instead of a stream: {message!r}"
    reason = "the stream ended without its final marker"
    if errors := _ERROR.findall(received):
        message = one_line(extract_message(errors[-1]), _REPLY_CHARACTERS)
        reason += f", after the error {message!r}"
    return reason


class UnusableAnswer(Exception):
    """The end of an answer makes the run fail.

    Attributes:
        code: Code of the error. In lower case, it is the reason of the outcome.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


def is_complete(response: ModelResponse) -> bool:
    """Return True if the stream of a response had its final marker.

    The marker is ``finish_reason`` of chat completions, ``stop_reason`` of Anthropic's messages,
    the terminal event of OpenAI's responses, and so on. If chat completions lack it, pydantic-ai
    assumes "stop". Models without a provider have no marker.
    """
    if response.provider_name is None or response.state == "suspended":
        return True
    if response.state == "incomplete":
        return False
    if response.provider_name in _WITHOUT_MARKS:
        return response.finish_reason is not None
    details = response.provider_details or {}
    return any(details.get(mark) for mark in _MARKS)


def with_refusal(response: ModelResponse) -> ModelResponse:
    """Return a response with its refusal as text if the provider sends it as a detail."""
    if not response.parts and (refusal := _details(response).get("refusal")):
        response.parts = [TextPart(str(refusal))]
    return response


def is_empty(response: ModelResponse) -> bool:
    """Return True if a response has neither text nor tool calls; reasoning does not count."""
    return not any(
        bool(part.content.strip()) if isinstance(part, TextPart) else True
        for part in response.parts
        if not isinstance(part, ThinkingPart)
    )


def require_usable(response: ModelResponse, *, acted: bool) -> None:
    """Check the end of a complete answer.

    Args:
        response: The answer.
        acted: Whether the run has called tools, after which an empty answer is accepted.

    Raises:
        UnusableAnswer: The answer is truncated, filtered, refused, empty, or ended by an error.
    """
    reason = str(_details(response).get("finish_reason") or response.finish_reason)
    match response.finish_reason:
        case "length":
            raise UnusableAnswer("TRUNCATED", _truncated(response, reason))
        case "content_filter":
            refusal = _details(response).get("refusal")
            if refusal or reason == "refusal":
                text = one_line(str(refusal or ""), _REFUSAL_CHARACTERS)
                raise UnusableAnswer(
                    "REFUSED", f"The model refused to answer{f': {text}' if text else '.'}"
                )
            raise UnusableAnswer(
                "FILTERED",
                f"The provider's content filter stopped the answer ({one_line(reason, 80)}). "
                "Rephrase the request.",
            )
        case "error":
            raise UnusableAnswer(
                "PROVIDER", f"The provider ended the answer with an error ({one_line(reason, 80)})."
            )
    if is_empty(response) and not acted:
        has_reasoning = any(isinstance(part, ThinkingPart) for part in response.parts)
        only = ", only reasoning" if has_reasoning else ""
        raise UnusableAnswer(
            "EMPTY", f"The model's answer is empty: no text and no tool call{only}."
        )


def _truncated(response: ModelResponse, reason: str) -> str:
    last = response.parts[-1] if response.parts else None
    where = ""
    if isinstance(last, ToolCallPart):
        where = f" in a call of {last.tool_name}, which was not executed"
    elif is_empty(response):
        where = " before any text"
    tokens = response.usage.output_tokens
    after = f" after {tokens:,} tokens" if tokens else ""
    return (
        f"The answer was truncated{after}{where}: it reached the model's output limit "
        f"({one_line(reason, 80)}). Ask for the rest, or for a shorter answer."
    )


def _details(response: ModelResponse) -> dict[str, Any]:
    return response.provider_details or {}
