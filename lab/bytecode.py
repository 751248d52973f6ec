"""Runs in every Python of a lab's host that keeps bytecode: what is imported from zip archives.

Ansible sends a module and all that it imports as source in an archive, so each call compiles it
anew, and zipimport even twice: more than half of what a call costs. Here the code objects are kept
by the source's hash, as pyc files are (PEP 552), so a changed source is compiled.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport
from types import CodeType
from typing import Any

#: Where a host keeps them: on its disk, and in no directory that tests compare.
DIRECTORY = "/var/cache/podnet-lab"

#: Where this file lies on a host, and the one that makes `site` run it (site(7)).
MODULE = "usr/lib/python3/dist-packages/podnet_lab_bytecode.py"
PTH = MODULE.replace(".py", ".pth")
PTH_TEXT = "import podnet_lab_bytecode; podnet_lab_bytecode.install()\n"


def install(directory: str = DIRECTORY) -> None:
    """Let imports from zip archives use and fill a directory, which is there."""
    importer: Any = zipimport
    implementation: Any = _imp
    compile_source = importer._compile_source
    magic = sys.modules["_frozen_importlib_external"]._RAW_MAGIC_NUMBER

    def compiled(path: str, source: bytes) -> CodeType:
        name = f"{directory}/{implementation.source_hash(magic, source).hex()}"
        try:
            with open(name, "rb") as file:  # noqa: PTH123 - every start would import pathlib
                code: CodeType = marshal.loads(file.read())
        except OSError:
            code = compile_source(path, source)
            _keep(name, marshal.dumps(code))
        else:
            # The archive has another name in each call.
            implementation._fix_co_filename(code, path)
        return code

    importer._compile_source = compiled


def _keep(name: str, data: bytes) -> None:
    temporary = f"{name}.{os.getpid()}"
    try:  # no contextlib: every start would import it
        with open(temporary, "wb") as file:  # noqa: PTH123
            file.write(data)
        os.replace(temporary, name)  # noqa: PTH105
    except OSError:
        pass  # Where there is no room, the next call compiles again.
