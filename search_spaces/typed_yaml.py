"""YAML files read into pydantic models: unknown keys refused, every error at once, each with its path in the file."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from search_spaces.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class FileModel(BaseModel):
    """Base of every model that is read from a file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys without a word; here that is an error. No tag builds an object."""


def _mapping_without_duplicates(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands here twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the mapping at the top of a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, repeats a key, or holds no mapping.
    """
    try:
        data = _UniqueKeyLoader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; check the path") from None
    except yaml.MarkedYAMLError as error:
        place = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise InputError(f"{path} is not valid YAML{place}: {error.problem}; mend that line") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must hold a mapping of keys at the top, got {type(data).__name__}")
    return data


def parse(model: type[Model], data: object, source: str) -> Model:
    """Returns ``data`` as ``model``.

    Args:
        model: the pydantic model.
        data: what was read.
        source: the file's name, for the message.

    Raises:
        InputError: one line for each broken rule: its path in the file, the rule, the value.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError("\n".join(f"{source}: {line}" for line in _lines(error, data))) from None


def _lines(error: ValidationError, data: object) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        path = ".".join(_in_file(item["loc"], data, keep_last=item["type"] == "missing")) or "top level"
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key; remove it or mend its spelling")
        elif item["type"] == "missing":
            lines.append(f"{path}: this key is required; add it")
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = repr(item["input"])
            # Our own rules name the value themselves.
            shown = (
                "" if item["type"] == "value_error" else f", got {value if len(value) <= 80 else value[:77] + '...'}"
            )
            lines.append(f"{path}: {message[0].lower() + message[1:]}{shown}")
    return list(dict.fromkeys(lines))


def _in_file(location: tuple[int | str, ...], data: object, *, keep_last: bool) -> list[str]:
    """Returns a location without the names that pydantic adds where a key may hold one of several models."""
    parts = []
    for place, part in enumerate(location):
        if isinstance(data, dict) and part not in data and not (keep_last and place == len(location) - 1):
            continue
        parts.append(str(part))
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
    return parts
