"""Counter of a run's usage and cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.usage import RequestUsage

from beray.server.runners.base import Usage

CHARACTERS_PER_TOKEN: Final = 4
"""Approximate ratio for English prose and code."""


class UsageMeter:
    """Sum of the usage of a run's requests.

    Attributes:
        usage: Total so far.
    """

    def __init__(self, model_name: str) -> None:
        self.usage = Usage()
        self._model_name = model_name
        self._cost: Decimal | None = Decimal(0)

    def add(
        self,
        response: ModelResponse,
        messages: Sequence[ModelMessage],
        parameters: ModelRequestParameters,
        *,
        complete: bool,
    ) -> None:
        """Count one request.

        If the provider has not reported the usage, it is estimated from the length of the text.

        Args:
            response: The received part of the answer.
            messages: Messages of the request.
            parameters: Parameters of the request, with the tools.
            complete: Whether the answer is complete, so that the reported usage is final.
        """
        counted = response.usage
        reported = counted.has_values() and (counted.input_tokens or counted.output_tokens)
        estimated = not (complete and reported)
        if estimated:
            counted = RequestUsage(
                input_tokens=counted.input_tokens or _request_tokens(messages, parameters),
                output_tokens=max(counted.output_tokens, _tokens(_answer_texts([response]))),
                cache_read_tokens=counted.cache_read_tokens,
                cache_write_tokens=counted.cache_write_tokens,
            )
        price = self._price(replace(response, usage=counted))
        self._cost = None if price is None or self._cost is None else self._cost + price
        before = self.usage
        self.usage = Usage(
            requests=before.requests + 1,
            input_tokens=before.input_tokens + counted.input_tokens,
            output_tokens=before.output_tokens + counted.output_tokens,
            cache_read_tokens=before.cache_read_tokens + counted.cache_read_tokens,
            cache_write_tokens=before.cache_write_tokens + counted.cache_write_tokens,
            cost_usd=None if self._cost is None else float(self._cost),
            estimated=before.estimated or estimated,
        )

    def _price(self, response: ModelResponse) -> Decimal | None:
        """Return the price in US dollars from the installed genai-prices, None if unknown.

        No prices are fetched from the network.
        """
        if response.usage.cost is not None:
            return response.usage.cost
        for name in dict.fromkeys((response.model_name, self._model_name)):
            try:
                return replace(response, model_name=name or self._model_name).cost().total_price
            except (LookupError, ValueError):
                continue
        return None


def _request_tokens(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    texts = [request.instructions or "" for request in requests[-1:]]
    texts += [_text(getattr(part, "content", "")) for request in requests for part in request.parts]
    texts += [
        f"{tool.name}{tool.description or ''}{json.dumps(tool.parameters_json_schema)}"
        for tool in parameters.function_tools
    ]
    answers = [message for message in messages if isinstance(message, ModelResponse)]
    return _tokens([*texts, *_answer_texts(answers)])


def _answer_texts(responses: Iterable[ModelResponse]) -> Iterable[str]:
    for response in responses:
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                yield part.tool_name
                yield part.args if isinstance(part.args, str) else json.dumps(part.args)
            else:
                yield _text(getattr(part, "content", ""))


def _text(content: object) -> str:
    return content if isinstance(content, str) else str(content)


def _tokens(texts: Iterable[str]) -> int:
    return -(-sum(map(len, texts)) // CHARACTERS_PER_TOKEN)
