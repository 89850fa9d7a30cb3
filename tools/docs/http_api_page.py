"""Reference of the HTTP API, from the OpenAPI schema of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from beray import schema as schema_types
from beray.server.api.middleware import Activity
from beray.server.app import create_app
from tools.docs.markdown import (
    EXTENSION,
    anchor,
    code,
    field_docstrings,
    from_docstring,
    in_one_line,
    table,
)

_BADGE: Final = "*BeRay extension*"
_SSE: Final = "text/event-stream"
_TITLES: Final = {
    "accounts": "Accounts",
    "administration": "Administration",
    "tasks": "Tasks",
    "files": "Files of tasks",
    "history": "History of work_dirs",
    "chats": "Chats",
    "gateway": "Gateway",
    "server": "Server",
}

Schema = dict[str, Any]


def generate() -> str:
    """Return a section for each call, grouped by resource, and the schemas that they refer to."""
    openapi = create_app(Activity()).openapi()
    parts = []
    for tag, title in _TITLES.items():
        found = [call for call in calls(openapi) if call[2]["tags"] == [tag]]
        parts += [f"## {title}\n", _overview(found), *(_section(*call) for call in found)]
    parts.append("## Schemas\n")
    schemas = openapi["components"]["schemas"]
    shown = [name for name in schemas if name not in ("HTTPValidationError", "ValidationError")]
    parts += [_schema_section(name, schemas[name]) for name in shown if not _is_form(name)]
    return "\n".join(parts)


def calls(openapi: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Yield method, path and operation of each call."""
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _is_form(name: str) -> bool:
    """Return True for the schemas that FastAPI generates for forms."""
    return name.startswith("Body_")


def is_extension(operation: Schema) -> bool:
    """Return True if a call is not part of the published API."""
    summary = operation.get("description", "").split("\n\n")[:2]
    return any(paragraph.rstrip().endswith(EXTENSION) for paragraph in summary)


def heading(method: str, path: str) -> str:
    """Return the heading of a call."""
    return f"{method} {path}"


def _overview(found: list[tuple[str, str, Schema]]) -> str:
    rows = []
    for method, path, operation in found:
        text = _description(operation).split("\n\n")[0]
        mark = f" {_BADGE}" if is_extension(operation) else ""
        link = f"[`{method} {path}`](#{anchor(heading(method, path))})"
        rows.append((link, in_one_line(text) + mark))
    return table(["call", ""], rows)


def _description(operation: Schema) -> str:
    text = from_docstring(operation.get("description", ""))
    return text.replace(f" {EXTENSION}", "").replace(EXTENSION, "").strip()


def _section(method: str, path: str, operation: Schema) -> str:
    parts = [f"### `{heading(method, path)}`\n"]
    if is_extension(operation):
        parts.append(f"{_BADGE}\n")
    parts += [f"{_description(operation)}\n", _credentials(operation)]
    parts += [_parameters(operation), _body(operation)]
    parts.append(_responses(operation))
    return "\n".join(part for part in parts if part)


def _credentials(operation: Schema) -> str:
    """Return the line with the credentials that a call accepts."""
    accepted = {
        name: scopes for one in operation.get("security", []) for name, scopes in one.items()
    }
    if not accepted:
        return ""
    if len(accepted) > 1:
        text = "`X-Internal-Token`, `X-API-Key`, or the access token of a session."
    elif accepted["HTTPBearer"] == ["administrator"]:
        text = "session of an administrator."
    elif scopes := accepted["HTTPBearer"]:
        text = f"session, or API key with the scope {' or '.join(map(code, scopes))}."
    else:
        text = "session."
    return f"Credential: {text}\n"


def _parameters(operation: Schema) -> str:
    rows = []
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        text = parameter.get("description") or schema.get("description", "")
        presence = "required" if parameter.get("required") else _default(schema)
        rows.append(
            (
                code(_header_name(parameter)),
                parameter["in"],
                _type(schema),
                presence,
                _marked(text),
            )
        )
    return table(["parameter", "in", "type", "default", "meaning"], rows)


def _header_name(parameter: Schema) -> str:
    name = str(parameter["name"])
    return name.title().replace("-Id", "-ID") if parameter["in"] == "header" else name


def _default(schema: Schema) -> str:
    value = schema.get("default")
    return "" if value in (None, "", [], {}) or isinstance(value, dict) else code(json.dumps(value))


def _marked(text: str) -> str:
    """Return a description in one line, in which extensions are marked."""
    return in_one_line(from_docstring(text)).replace(EXTENSION, f"{_BADGE}.")


def _body(operation: Schema) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    lines = []
    for media_type, description in content.items():
        schema = description.get("schema", {})
        lines.append(f"Request body, `{media_type}`: {_body_type(schema)}\n")
    return "\n".join(lines)


def _body_type(schema: Schema) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    if _is_form(name):
        return "the form fields `username` and `password`."
    fields = ", ".join(map(code, schema.get("properties", {})))
    return f"the fields {fields}." if fields else f"{_type(schema)}."


def _responses(operation: Schema) -> str:
    rows = []
    responses = dict(operation["responses"])
    if operation.get("security"):
        responses.setdefault("401", {"description": "The access token is missing or invalid."})
    for status, response in sorted(responses.items()):
        if status.startswith("2"):
            content = response.get("content", {})
            text = "; ".join(
                f"{_content(name, media)}, `{name}`" for name, media in content.items()
            )
            headers = ", ".join(map(code, response.get("headers", {})))
            text += f". Headers: {headers}" if headers else ""
        else:
            text = response["description"]
            text = "A value is invalid." if text == "Validation Error" else text
        rows.append((f"{status} {HTTPStatus(int(status)).phrase}", in_one_line(text)))
    return table(["response", ""], rows)


def _content(media_type: str, media: Schema) -> str:
    return "stream" if media_type == _SSE else _type(media.get("schema", {}))


def _schema_section(name: str, schema: Schema) -> str:
    description = _marked(schema.get("description", "").split("\n\n")[0])
    required = schema.get("required", [])
    meanings = field_docstrings(getattr(schema_types, name)) if hasattr(schema_types, name) else {}
    rows = [
        (
            code(field),
            _type(content),
            "required" if field in required else _default(content),
            _marked(content.get("description") or meanings.get(field, "")),
        )
        for field, content in schema.get("properties", {}).items()
    ]
    return f"### {name}\n\n{description}\n\n" + table(["field", "type", "", "meaning"], rows)


def _type(schema: Schema) -> str:
    """Return a schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    if "const" in schema:
        return code(str(schema["const"]))
    kind = schema.get("type", "any JSON")
    if schema.get("format") == "binary":
        return "bytes"
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}{_limits(schema)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return f"{kind}{_limits(schema)}"


def _limits(schema: Schema) -> str:
    """Return the constraints of a schema."""
    words = (
        ("minimum", "≥ {:,}"),
        ("exclusiveMinimum", "> {:,}"),
        ("maximum", "≤ {:,}"),
        ("maxLength", "≤ {:,} characters"),
        ("maxItems", "≤ {:,} items"),
    )
    limits = [text.format(schema[name]) for name, text in words if name in schema]
    return f" ({', '.join(limits)})" if limits else ""
