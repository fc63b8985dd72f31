"""What the page about the REST interface shows, read from its OpenAPI document."""

import dataclasses
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

Schema = Mapping[str, Any]
_REFERENCE = "#/components/schemas/"
_MEDIA = ("multipart/form-data", "application/json", "text/plain")


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a request or of an object.

    Args:
        name: Its name.
        kind: What it holds, in words.
        refers_to: Name of the object that it holds; empty if it holds none.
        is_required: Whether it must be sent.
        description: What it means.
    """

    name: str
    kind: str
    refers_to: str
    is_required: bool
    description: str


@dataclasses.dataclass(frozen=True)
class Response:
    """A response to a request.

    Args:
        status: HTTP status with its name.
        description: What it means.
        kind: What it contains, in words; empty if that is not described.
        refers_to: Name of the object that it contains; empty if it contains none.
    """

    status: str
    description: str
    kind: str
    refers_to: str


@dataclasses.dataclass(frozen=True)
class Operation:
    """A request that can be made.

    Args:
        method: HTTP method.
        path: Path.
        summary: What it does, in one line.
        description: More of it.
        media_type: What is sent; empty if nothing is.
        refers_to: Name of the object that is sent as JSON; empty for a form.
        fields: The fields of a form.
        examples: Commands for curl.
        responses: What may come back.
    """

    method: str
    path: str
    summary: str
    description: str
    media_type: str
    refers_to: str
    fields: list[Field]
    examples: list[str]
    responses: list[Response]


@dataclasses.dataclass(frozen=True)
class Object:
    """An object of JSON that is sent or comes back.

    Args:
        name: Its name.
        description: What it is.
        fields: Its fields.
        examples: Objects as JSON.
    """

    name: str
    description: str
    fields: list[Field]
    examples: list[str]


def list_operations(document: Schema) -> list[Operation]:
    """List the requests that an OpenAPI document describes.

    Args:
        document: The document.
    """
    return [
        _describe_operation(method, path, operation, document=document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def list_objects(document: Schema) -> list[Object]:
    """List the objects that requests and responses of an OpenAPI document contain.

    Args:
        document: The document.
    """
    return [
        Object(
            name,
            _plain(schema.get("description", "")),
            _list_fields(schema),
            [json.dumps(example, indent=2) for example in schema.get("examples", ())],
        )
        for name, schema in document["components"]["schemas"].items()
    ]


def _describe_operation(method: str, path: str, operation: Schema, *, document: Schema) -> Operation:
    content = operation.get("requestBody", {}).get("content", {})
    media_type = next(iter(content), "")
    body: Schema = content.get(media_type, {})
    schema = body.get("schema", {})
    refers_to = _find_reference(schema)
    if refers_to:
        schemas = document["components"]["schemas"]
        sent = [f"-H 'Content-Type: {media_type}' -d '{json.dumps(one)}'" for one in schemas[refers_to]["examples"]]
    else:
        forms = (example["value"] for example in body.get("examples", {}).values())
        sent = [
            " ".join(["-F files=@1520.png", *(f"-F {name}={value}" for name, value in form.items())]) for form in forms
        ]
    return Operation(
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        description=_plain(operation.get("description", "")),
        media_type=media_type,
        refers_to=refers_to,
        fields=_list_fields(schema),
        examples=sent,
        responses=[_describe_response(status, response) for status, response in operation["responses"].items()],
    )


def _describe_response(status: str, response: Schema) -> Response:
    content = response.get("content", {})
    schema: Schema = next((content[media]["schema"] for media in _MEDIA if content.get(media, {}).get("schema")), {})
    words = _plain(response["description"]).replace("Successful Response", "The answer.")
    kind = _name_kind(schema) if schema else ""
    return Response(f"{status} {HTTPStatus(int(status)).phrase}", words, kind, _find_reference(schema))


def _list_fields(schema: Schema) -> list[Field]:
    required = schema.get("required", ())
    return [
        Field(name, _name_kind(field), _find_reference(field), name in required, _plain(field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]


def _name_kind(schema: Schema) -> str:
    """Name what a field holds."""
    if "anyOf" in schema:
        return " or ".join(map(_name_kind, schema["anyOf"]))
    if reference := _find_reference(schema):
        return f"list of {reference}" if schema.get("type") == "array" else reference
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_name_kind(schema['items'])}"
    if schema.get("type") == "object" and isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"{_name_kind(values)} by name"
    kind = "file" if schema.get("format") == "binary" else str(schema.get("type", "any"))
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    if low is None:
        return kind
    return f"{kind}, {'above ' if 'exclusiveMinimum' in schema else ''}{low:g} to {schema['maximum']:g}"


def _find_reference(schema: Schema) -> str:
    """Return the name of the object that a field holds, alone, in a list or if it is not null; empty without one."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    inner = [schema["items"]] if "items" in schema else schema.get("anyOf", [])
    return next(filter(None, map(_find_reference, inner)), "")


def _plain(text: str) -> str:
    return text.replace("`", "")
