"""What people write, checked against a pydantic model; what is wrong with it in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from saliency_sanity._errors import InputError, unknown


class Strict(BaseModel):
    """A model that refuses keys it does not have.

    The description of a field completes ``KEY must …``. What a validator raises is said as it is.
    """

    model_config = ConfigDict(extra="forbid")


M = TypeVar("M", bound=Strict)

# Names and their values; nothing, as YAML has it where only comments follow, is none of them.
Values = Annotated[dict[Any, Any], BeforeValidator(lambda value: {} if value is None else value)]


def checked(kind: type[M], content: Any, where: str = "") -> M:
    """Return ``content`` as a ``kind``.

    Raises
    ------
    InputError
        It is none: unknown keys with the nearest valid ones first, then what each other key must
        be and what it is, after ``where``.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
    if not isinstance(content, Mapping):
        keys = ", ".join(kind.model_fields)
        raise InputError(f"{where} must map {keys} to their values, not {content!r}".lstrip())
    found.sort(key=lambda one: one["type"] != "extra_forbidden")
    said = "; ".join(_said(kind, one) for one in found)
    raise InputError(f"{where}: {said}" if where else said)


def _said(kind: type[Strict], error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    key, *inner = error["loc"]
    if error["type"] == "extra_forbidden":
        return unknown("key", key, kind.model_fields).removesuffix(".")
    valid = kind.model_fields[key].description
    if error["type"] in ("missing", "string_too_short"):
        return f"{key!r} is missing; it must {valid}"
    place = f" at {'.'.join(map(str, inner))}" if inner else ""
    return f"{key!r} must {valid}, not {error['input']!r}{place}"
