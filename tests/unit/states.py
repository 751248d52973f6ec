"""States as YAML and back: the words of a case are the fields of `podnet.state`, and no others.

Every scalar is text in the file and becomes what the field's type says, so a MAC needs no quotes.
Three things are written as people read them: objects of a device stand under its name, an
address carries its flags behind it ("fd00::1/64 nodad"), and a rule is "why: text".
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from podnet.core.state import Accept, Change, DeviceKey, Rule, State, make_rule


def read(path: Path) -> Any:
    """Return a YAML file with every scalar as text."""
    return parse(path.read_text())


def as_text(data: Any) -> Any:
    """Return what `read` would make of `data`, had it been written."""
    return parse(write(data))


def parse(text: str) -> Any:
    """Return YAML with every scalar as text."""
    return yaml.load(text, yaml.BaseLoader)


def write(data: Any) -> str:
    """Return YAML as the cases have it."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1000)


class _Dumper(yaml.SafeDumper):
    """Quotes only what `read` would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: Any) -> Any:
        # A command a line.
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=False)

    def represent_dict(self, data: Any) -> Any:
        short = len(str(data)) < 100 and all(isinstance(one, str) for one in data.values())
        return self.represent_mapping("tag:yaml.org,2002:map", data, flow_style=short)

    def represent_str(self, data: str) -> Any:
        return self.represent_scalar(
            "tag:yaml.org,2002:str", data, style="|" if "\n" in data else None
        )


_Dumper.yaml_implicit_resolvers = {}
_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_representer(dict, _Dumper.represent_dict)
_Dumper.add_representer(str, _Dumper.represent_str)


def state(data: Any) -> State:
    """Return the state that a mapping describes; raise ValueError for a word that is unknown."""
    hints = typing.get_type_hints(State)
    fields = _mapping(data, hints, "state")
    return State(**{name: _table(name, hints[name], value, name) for name, value in fields.items()})


def describe(one: State) -> dict[str, Any]:
    """Return what `state` makes this state of; empty tables are left out."""
    hints = typing.get_type_hints(State)
    return {
        name: _plain_table(name, hints[name], table) for name, table in vars(one).items() if table
    }


def value(kind: Any, data: Any, where: str) -> Any:
    """Return `data` as the type `kind`: text, a number, a truth, a tuple, a dict or a record."""
    if kind is Rule and isinstance(data, Mapping) and "tag" not in data:
        ((why, text),) = data.items()
        return make_rule(text, why)
    if typing.get_origin(kind) is tuple:
        if not isinstance(data, list):
            raise ValueError(f"{where}: a list is wanted, not {data!r}")
        (inner, _) = typing.get_args(kind)
        return tuple(value(inner, one, f"{where}[{number}]") for number, one in enumerate(data))
    if typing.get_origin(kind) is dict:
        _mapping(data, data, where)
        key_kind, inner = typing.get_args(kind)
        return {
            value(key_kind, key, where): value(inner, one, f"{where}.{key}")
            for key, one in data.items()
        }
    if _is_record(kind):
        hints = typing.get_type_hints(kind)
        given = _mapping(data, hints, where)
        return kind(**{key: value(hints[key], one, f"{where}.{key}") for key, one in given.items()})
    if kind is bool:
        return {"true": True, "false": False}[data]
    if kind not in (int, str) or not isinstance(data, str):
        raise ValueError(f"{where}: {kind} is wanted, not {data!r}")
    return kind(data)


def plain(one: Any) -> Any:
    """Return what `value` makes `one` of; defaults are left out."""
    if isinstance(one, Rule):
        why = one.tag.rpartition(" [")[0]
        known = make_rule(one.text, why) == one
        return {why: one.text} if known else {"text": one.text, "tag": one.tag}
    if _is_record(type(one)):
        if hasattr(one, "_asdict"):
            fields, defaults = one._asdict(), one._field_defaults
        else:
            fields = vars(one)
            defaults = {field.name: field.default for field in dataclasses.fields(one)}
        return {
            key: plain(each)
            for key, each in fields.items()
            if key not in defaults or defaults[key] != each
        }
    if isinstance(one, Mapping):
        return {plain(key): plain(each) for key, each in one.items()}
    if isinstance(one, tuple | list):
        return [plain(each) for each in one]
    return str(one).lower() if isinstance(one, bool) else str(one)


def lines(todo: Iterable[Change]) -> list[str]:
    """Return the commands of changes in their order, one a line behind their tool."""
    result = []
    for one in todo:
        if one.tool == "pod":
            result.append(f"pod {' '.join(one.lines)}")
        else:
            result += [f"{one.tool} {line}" for line in one.lines]
    return result


def shown(todo: Iterable[Change]) -> str:
    """Return what a check prints of changes: the objects before and after."""
    marked = [
        f"{mark} {line}"
        for one in todo
        for mark, text in (("-", one.before), ("+", one.after))
        for line in text.splitlines()
    ]
    return "".join(f"{line}\n" for line in marked)


def _table(name: str, hint: Any, data: Any, where: str) -> dict[Any, Any]:
    key_kind, inner = typing.get_args(hint)
    is_right: bool = isinstance(data, list if key_kind is Accept else Mapping)
    if not is_right:
        raise ValueError(f"{where}: {hint} is wanted, not {data!r}")
    if key_kind == DeviceKey and name == "addresses":
        return {
            (device, one.partition(" ")[0]): "".join(one.partition(" ")[1:])
            for device, found in data.items()
            for one in found
        }
    if key_kind == DeviceKey:
        return {
            (device, key): value(inner, one, f"{where}.{device}.{key}")
            for device, found in data.items()
            for key, one in found.items()
        }
    if key_kind is Accept:
        return {
            Accept(one["tool"], one["chain"], one["rule"]): tuple(map(int, one.get("handles", ())))
            for one in data
        }
    return typing.cast(dict[Any, Any], value(hint, data, where))


def _plain_table(name: str, hint: Any, table: Mapping[Any, Any]) -> Any:
    key_kind, _ = typing.get_args(hint)
    nested: dict[str, Any] = {}
    if key_kind == DeviceKey and name == "addresses":
        for (device, cidr), flags in table.items():
            nested.setdefault(device, []).append(cidr + flags)
        return nested
    if key_kind == DeviceKey:
        for (device, key), one in table.items():
            nested.setdefault(device, {})[key] = plain(one)
        return nested
    if key_kind is Accept:
        return [
            plain(key) | ({"handles": plain(handles)} if handles else {})
            for key, handles in table.items()
        ]
    return plain(table)


def _mapping(data: Any, known: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: a mapping is wanted, not {data!r}")
    unknown = sorted(data.keys() - known.keys())
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    return data


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and (hasattr(kind, "_fields") or dataclasses.is_dataclass(kind))
