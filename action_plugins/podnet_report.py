# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action plugin of `podnet_report`: writes the page, the picture and the data on the controller.

library/podnet_report.py documents its options. Here and not by Ansible's modules for templates and
copies: the page has hosts' words in it, which are escaped by Jinja2 itself and never templated, and
of 500 hosts it is too large to pass from task to task.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# Ansible lets modules import module_utils, but not other plugins.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.core.document import unpack_plan
from podnet.core.errors import PodnetError, message
from podnet.core.verdict import MEANINGS
from podnet.report import view
from podnet.report.data import data
from podnet.report.picture import picture
from podnet.run.exports import as_json
from podnet.run.results import registered

ARGUMENTS = {
    "directory": {"type": "str", "default": ""},
    "templates": {"type": "path", "required": True},
    **{
        key: {"type": "str", "required": True}
        for key in ("plan", "looked", "state", "made", "probed", "traces")
    },
}

#: Lines of a list that the page shows before it counts the rest.
_MOST = 100

_BEGIN = '<script type="application/json" id="podnet-data">'


def render(found: Mapping[str, Any], templates: Path) -> str:
    """Return the page for the report's data."""
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    hosts = [{**host, "number": number} for number, host in enumerate(found["hosts"])]
    text: str = environment.get_template("report.html.j2").render(
        data={**found, "hosts": hosts},
        picture=Markup(picture(found)),
        matrix=view.matrix(found),
        failing=list(view.failing(found)),
        failures=len(
            {(one["from"], one["to"]) for one in (found["pairs"] or {}).get("failures", ())}
        ),
        meanings=list(MEANINGS.values()),
        name=f"{found['network']}-report",
        when=_when,
        most=_MOST,
        embedded=Markup(embedded(found)),
    )
    return text


def _when(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def embedded(found: Mapping[str, Any]) -> str:
    """Return the data as JSON that cannot end the script element which holds it."""
    text = json.dumps(found, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def previous(page: str) -> dict[str, Any] | None:
    """Return the data in a page that `render` made; None if there are none that can be read."""
    try:
        found = json.loads(page.partition(_BEGIN)[2].partition("</script>")[0])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def told(found: Mapping[str, Any], page: str) -> list[str]:
    """Return what to say at the end of the run."""
    hosts = [host for host in found["hosts"] if host["state"] not in ("ok", "left out")]
    lines = []
    if found["pairs"]:
        failed, asked = found["pairs"]["failed"], found["pairs"]["asked"]
        lines.append(
            f"{failed} of {asked} ways between hosts fail"
            if failed
            else f"All {asked} ways between hosts that were asked work"
        )
        lines += found["pairs"]["told"]
    else:
        lines.append("Nothing was probed")
    lines += [f"{host['name']}: {host['state']}: {host['why']}" for host in hosts[:_MOST]]
    lines += [f"{one['from']} -> {one['to']}: {one['lines'][-1]}" for one in found["traces"]]
    return [*lines, f"The report is {page}"]


def write(path: Path, text: str) -> None:
    """Replace a file whole, so that nobody reads half of it; raises OSError."""
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(beside).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(beside).unlink()
        raise


def report(
    answers: Mapping[str, Any],
    directory: Path,
    templates: Path,
    moment: int,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Make the report and write it; return the task's result. Raises PodnetError.

    `answers` are the arguments of `podnet.report.data.data` without the last two.
    """
    name = unpack_plan(answers["plan"]["document"])["name"]
    stem = directory / f"{name}-report"
    page = stem.with_suffix(".html")
    before = None
    with contextlib.suppress(OSError, UnicodeDecodeError):
        before = previous(page.read_text(encoding="utf-8"))
    found = data(**answers, moment=moment, before=before)
    texts = {
        ".html": render(found, templates),
        ".svg": picture(found) + "\n",
        ".json": as_json(found),
    }
    written = []
    if not check_mode:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for suffix, text in texts.items():
                write(stem.with_suffix(suffix), text)
                written.append(str(stem.with_suffix(suffix)))
        except OSError as error:
            raise PodnetError(
                f"{error.filename or directory}: cannot be written: {error.strerror}; let"
                " podnet_report_dir name a directory of the controller that can be"
            ) from error
    where = str(page) if written else f"not written (check mode): {page}"
    return {"changed": False, "files": written, "ok": found["ok"], "lines": told(found, where)}


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the result of `report`, or a failed one."""
        super().run(tmp, task_vars)
        _other, options = self.validate_argument_spec(ARGUMENTS)
        known = task_vars or {}
        hosts = [str(one) for one in known.get("ansible_play_hosts_all", [])]
        try:
            return report(
                _answers(known["hostvars"], hosts, options),
                Path(options["directory"] or Path.cwd()),
                Path(options["templates"]),
                int(time.time()),
                self._task.check_mode,
            )
        except Exception as error:  # also a bug is reported in one line
            return {"failed": True, "msg": message(error)}


def _answers(
    hostvars: Mapping[str, Any], hosts: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect what was registered, as plain values: Ansible's own carry tags."""
    by_name = {
        key: _plain(registered(hostvars, hosts, options[key]))
        for key in ("looked", "state", "made", "probed")
    }
    looked = {
        host: {**(one or {}), **{key: val for key, val in more.items() if key in ("state", "cni")}}
        if isinstance(more := by_name["state"][host], dict)
        else one
        for host, one in by_name["looked"].items()
    }
    asked = any(
        isinstance(one, dict) and not one.get("skipped") for one in by_name["made"].values()
    )
    return {
        "plan": _plain(hostvars[hosts[0]].get(options["plan"])),
        "looked": looked,
        "made": by_name["made"] if asked else {},
        "probed": by_name["probed"] if asked else {},
        "traces": _plain(hostvars[hosts[0]].get(options["traces"]) or []),
    }


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
