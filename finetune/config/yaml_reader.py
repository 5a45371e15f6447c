"""Reads plain values from a user's YAML: bounded in size and depth, no references, no objects."""

from typing import Any

import yaml

from core.errors import UserError

LARGEST_YAML = 64 * 1024
DEEPEST = 16
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


class _KeysOnce(yaml.SafeLoader):
    """Plain YAML without duplicate keys, of which the last would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                raise UserError("config.twice", key=key.value[:80], line=key.start_mark.line + 1)
            if name:
                seen.add(name)
        return super().construct_mapping(node, deep)


def read_mapping(text: str | bytes) -> dict[str, Any]:
    """Read the settings from at most 64 KB of YAML. Raises UserError, also for a duplicate key."""
    data = text.encode() if isinstance(text, str) else text
    if len(data) > LARGEST_YAML:
        raise UserError("config.too_large", size=len(data) // 1024, limit=LARGEST_YAML // 1024)
    try:
        raw = plain(data.decode("utf-8-sig"), _KeysOnce)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError("config.not_yaml", line=mark.line + 1 if mark else 1) from None
    if not isinstance(raw, dict):
        raise UserError("config.not_mapping")
    return raw


def apply_change(raw: dict[str, Any], change: str) -> None:
    """Set a value such as `optim.epochs=2` in nested settings. Raises UserError where it does not have that form."""
    path, equals, value = change.partition("=")
    if not equals or not path.strip():
        raise UserError("config.change", value=change[:80])
    try:
        _put(raw, path.strip().split("."), plain(value))
    except (yaml.YAMLError, ValueError):
        raise UserError("config.change", value=change[:80]) from None


def nest(values: dict[str, Any]) -> dict[str, Any]:
    """Return `{"optim.epochs": 2}` as `{"optim": {"epochs": 2}}`, for the form."""
    raw: dict[str, Any] = {}
    for path, value in values.items():
        _put(raw, path.split("."), value)
    return raw


def plain(text: str, kind: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read plain values from YAML. Refuse what would take long to read (references that multiply, endless nesting), and
    tags (`!!int`), which are not plain values.

    Raises yaml.YAMLError, ValueError for an invalid value (2024-99-99), UserError for references.
    """
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise UserError("config.alias")
        if isinstance(token, yaml.TagToken):
            raise yaml.MarkedYAMLError(problem_mark=token.start_mark)
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem_mark=token.start_mark)
    loader = kind(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _put(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = raw.get(key)
        raw[key] = raw = inner if isinstance(inner, dict) else {}
    raw[keys[-1]] = value
