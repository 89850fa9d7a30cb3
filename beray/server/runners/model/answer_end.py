"""Ends of a model's answers, and the outcome of each.

====================  =========================================================================
end                   outcome
====================  =========================================================================
stop, tool calls      the run goes on, or is ``COMPLETED``
length                ``FAILED``, reason ``truncated``; the text so far stays, no call is made
content filter        ``FAILED``, reason ``filtered``
refusal               ``FAILED``, reason ``refused``; the refusal is in the error
empty                 ``FAILED``, reason ``empty``; after tool calls ``COMPLETED`` with a note
no final marker       the answer is incomplete, and requested again like one that was cut off
no stream             the same; a web page, which a wrong base URL leads to, is not requested again
====================  =========================================================================
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

from beray.sanitize import one_line
from beray.server.runners.model.provider_errors import message_of

_MARKS: Final = ("finish_reason", "refusal", "block_reason")
"""Details of a response that come with its end."""
_UNMARKED: Final = frozenset({"snowflake", "xai"})
"""Providers whose reasons are not among the details; snowflake's streams can lack them."""
_REFUSAL_CHARACTERS: Final = 1000
_REPLY_CHARACTERS: Final = 200
_EVENT: Final = re.compile(r"(data|event|id|retry)?:")
"""Beginning of a stream of events."""
_ERROR: Final = re.compile(r'^data: ?(\{ ?"error":.*\})\r?$', re.MULTILINE)
"""An error in a stream, which some SDKs ignore unless the event is called "error"."""


class IncompleteAnswer(ModelAPIError):
    """The stream of an answer ended without its final marker.

    Args:
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
        title = one_line(message_of(received), _REPLY_CHARACTERS)
        return (
            f"the response is not a stream but a web page: {title!r}. "
            "Check the base URL of the provider"
        )
    if received and not _EVENT.match(received):
        words = one_line(message_of(received), _REPLY_CHARACTERS)
        if words.startswith(("{", "[")):
            return "the response is not a stream but JSON without a message"
        return f"the response is not a stream but a message: {words!r}"
    reason = "the stream ended without its final marker"
    if errors := _ERROR.findall(received):
        reason += f", after the error {one_line(message_of(errors[-1]), _REPLY_CHARACTERS)!r}"
    return reason


class UnusableAnswer(Exception):
    """An answer ended in a way that is a failure of the run.

    Attributes:
        code: Code of the error; the reason of the outcome in lower case.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


def is_complete(response: ModelResponse) -> bool:
    """Return whether the stream of a response had its final marker.

    That is ``finish_reason`` of chat completions, ``stop_reason`` of Anthropic's messages, a
    terminal event of OpenAI's responses, and so on. pydantic-ai assumes "stop" where chat
    completions lack it. Models without a provider have no marker.
    """
    if response.provider_name is None or response.state == "suspended":
        return True
    if response.state == "incomplete":
        return False
    if response.provider_name in _UNMARKED:
        return response.finish_reason is not None
    details = response.provider_details or {}
    return any(details.get(mark) for mark in _MARKS)


def with_refusal(response: ModelResponse) -> ModelResponse:
    """Return a response with its refusal as text, where the provider sends it apart."""
    if not response.parts and (refusal := _details(response).get("refusal")):
        response.parts = [TextPart(str(refusal))]
    return response


def is_empty(response: ModelResponse) -> bool:
    """Return whether a response has neither text nor anything else to act upon."""
    return not any(
        bool(part.content.strip()) if isinstance(part, TextPart) else True
        for part in response.parts
        if not isinstance(part, ThinkingPart)
    )


def require_usable(response: ModelResponse, *, acted: bool) -> None:
    """Check the end of a complete answer.

    Args:
        acted: The run has called tools, so that an empty answer can be its end.

    Raises:
        UnusableAnswer: It is truncated, filtered, refused or empty, or an error without a message.
    """
    reason = str(_details(response).get("finish_reason") or response.finish_reason)
    match response.finish_reason:
        case "length":
            raise UnusableAnswer("TRUNCATED", _truncated(response, reason))
        case "content_filter":
            refusal = _details(response).get("refusal")
            if refusal or reason == "refusal":
                words = one_line(str(refusal or ""), _REFUSAL_CHARACTERS)
                raise UnusableAnswer(
                    "REFUSED", f"The model refused to answer{f': {words}' if words else '.'}"
                )
            raise UnusableAnswer(
                "FILTERED",
                f"The provider's content filter stopped the answer ({one_line(reason, 80)}). "
                "Change what is asked.",
            )
        case "error":
            raise UnusableAnswer(
                "PROVIDER", f"The provider ended the answer with an error ({one_line(reason, 80)})."
            )
    if is_empty(response) and not acted:
        has_reasoning = any(isinstance(part, ThinkingPart) for part in response.parts)
        only = ", only reasoning" if has_reasoning else ""
        raise UnusableAnswer(
            "EMPTY", f"The model's answer is empty: it has no text and no tool call{only}."
        )


def _truncated(response: ModelResponse, reason: str) -> str:
    last = response.parts[-1] if response.parts else None
    where = ""
    if isinstance(last, ToolCallPart):
        where = f" in a call of {last.tool_name}, which was not made"
    elif is_empty(response):
        where = " before any text"
    tokens = response.usage.output_tokens
    after = f" after {tokens:,} tokens" if tokens else ""
    return (
        f"The answer was cut off{after}{where}: it reached the model's limit "
        f"({one_line(reason, 80)}). Ask for the rest, or for a shorter answer."
    )


def _details(response: ModelResponse) -> dict[str, Any]:
    return response.provider_details or {}
