"""Documentation of filters as a collection has it: made from their signatures and docstrings."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

#: How an annotation begins -> the type in Ansible's words; all else is raw.
_TYPES = {
    "Mapping": "dict",
    "dict": "dict",
    "Sequence": "list",
    "list": "list",
    "bool": "bool",
    "str": "str",
}

_NOTE = "Used by podnet's own roles and playbooks; its arguments may change with any version."


def filters(file: Path) -> dict[str, Callable[..., Any]]:
    """Return the filters that a file of filter_plugins has."""
    spec = importlib.util.spec_from_file_location(f"_podnet_docs_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Callable[..., Any]] = module.FilterModule().filters()
    return found


def document(name: str, function: Callable[..., Any]) -> str:
    """Return the text of NAME.yml beside the collection's filters."""
    said = [
        " ".join(part.replace("``", "").split())
        for part in (inspect.getdoc(function) or "").split("\n\n")
    ]
    first, *others = inspect.signature(function).parameters.values()
    options = {"_input": _option(first, "What the filter is applied to.")}
    options |= {one.name: _option(one, f"{one.name}, see the description.") for one in others}
    content = {
        "DOCUMENTATION": {
            "name": name,
            "author": "podnet contributors (!UNKNOWN)",
            "short_description": re.split(r"[:;.,]", said[0].replace("`", ""))[0],
            "description": [*said, _NOTE],
            **({"positional": ", ".join(one.name for one in others)} if others else {}),
            "options": options,
        },
        "RETURN": {
            "_value": {
                "description": said[0],
                **_type(inspect.signature(function).return_annotation),
            }
        },
    }
    return "---\n" + yaml.safe_dump(content, sort_keys=False, width=100)


def _option(parameter: inspect.Parameter, description: str) -> Mapping[str, Any]:
    needed = parameter.default is inspect.Parameter.empty
    default = {"required": True} if needed else {"default": parameter.default}
    return {"description": description, **_type(parameter.annotation), **default}


def _type(annotation: object) -> dict[str, str]:
    word = re.match(r"\w+", str(annotation))
    kind = _TYPES.get(word[0] if word else "", "raw")
    return {"type": kind, **({"elements": "raw"} if kind == "list" else {})}
