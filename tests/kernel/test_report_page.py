"""report.yml's page in a real browser without a network: what its console says, what it requests,
what axe-core finds, and whether it does what a click and a key should do.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from action_plugins.podnet_report import render
from tests.unit.report_data import HOSTILE, network

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/podnet_report/templates"
AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")

_BROWSER = (
    "chromium",
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
)
_LOUD = ("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom")

#: Run in the page; `steps` is what a reader does there.
_SCRIPT = """
<script>
addEventListener("load", async function () {
  const told = {};
  try { %(steps)s } catch (error) { told.error = String(error); }
  const found = await axe.run(document, {
    resultTypes: ["violations"],
    // The colours are the same however many hosts there are, and take long to look at.
    rules: {"color-contrast": {enabled: %(colours)s}},
  });
  told.axe = found.violations.map(function (one) {
    return one.id + ": " + one.nodes.slice(0, 3).map(function (node) { return node.html; });
  });
  told.requests = performance.getEntriesByType("resource").map(function (one) { return one.name; });
  const out = document.createElement("pre");
  out.id = "told";
  out.textContent = JSON.stringify(told);
  document.body.append(out);
});
</script>
"""


class Seen(NamedTuple):
    """Lines of the console, and what the script in the page told."""

    console: list[str]
    told: dict[str, Any]


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Seen]:
    def looked(page: str, steps: str = "", *options: str, colours: bool = True) -> Seen:
        given = {"steps": steps, "colours": json.dumps(colours)}
        script = f"<script>{AXE}</script>" + _SCRIPT % given
        file = tmp_path / "page.html"
        file.write_text(page.replace("</body>", script + "</body>"), encoding="utf-8")
        profile = f"--user-data-dir={tmp_path}/profile"
        done = subprocess.run(
            ["unshare", "--net", *_BROWSER, *_LOUD, profile, *options, file.as_uri()],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        [found] = re.findall(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
        # The browser's own pages have a console, too.
        told = [one for one in done.stderr.splitlines() if "CONSOLE" in one]
        console = [one for one in told if "source: chrome://" not in one]
        return Seen(console, json.loads(html.unescape(found)))

    return looked


CASES: dict[int, dict[str, Any]] = {
    3: {"broken": ((1, 2),), "drifted": (3,)},
    50: {"broken": tuple((7, node) for node in range(20, 51)), "gone": (12,), "drifted": (40,)},
    500: {"broken": ((1, 2), (300, 7)), "gone": (250,), "drifted": (10,)},
}

#: Goes to the first way that fails, and looks for the node of a pod's address.
_STEPS = """
  location.hash = "#way-0";
  await new Promise(function (done) { setTimeout(done, 50); });
  told.open = document.getElementById("way-0").open;
  told.way = document.getElementById("way-0").innerText;
  const input = document.getElementById("find");
  input.value = POD;
  input.dispatchEvent(new Event("input"));
  told.rows = Array.from(document.querySelectorAll("tr[data-host]")).filter(function (row) {
    return !row.hidden;
  }).map(function (row) { return row.dataset.host; });
  told.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  input.value = "";
  input.dispatchEvent(new Event("input"));
"""


@pytest.mark.parametrize("hosts", CASES)
def test_a_page(look: Callable[..., Seen], tmp_path: Path, hosts: int) -> None:
    found = network(tmp_path, hosts, **CASES[hosts])
    last = found["hosts"][-1]
    pod = last["subnet"].replace(".0/24", ".77")
    steps = _STEPS.replace("POD", json.dumps(pod))
    if hosts == 3:
        # With all that is hidden at first.
        steps += (
            "document.querySelectorAll('details').forEach(function (one) { one.open = true; });"
        )
    seen = look(render(found, TEMPLATES), steps, colours=hosts < 500)
    assert seen.console == []
    assert seen.told.pop("way").startswith("n" if hosts == 50 else "n1")
    assert seen.told == {"open": True, "rows": [last["name"]], "wide": 0, "axe": [], "requests": []}


def test_a_dark_page(look: Callable[..., Seen], tmp_path: Path) -> None:
    found = network(tmp_path, 3, **CASES[3])
    steps = "told.dark = matchMedia('(prefers-color-scheme: dark)').matches;"
    steps += "document.querySelectorAll('details').forEach(function (one) { one.open = true; });"
    seen = look(render(found, TEMPLATES), steps, "--blink-settings=preferredColorScheme=0")
    assert seen == Seen([], {"dark": True, "axe": [], "requests": []})


def test_words_of_hosts_do_nothing(look: Callable[..., Seen], tmp_path: Path) -> None:
    found = network(tmp_path, 3, **CASES[3], what=HOSTILE)
    found["hosts"][0].update(name=HOSTILE, why=HOSTILE, others=[HOSTILE])
    found["segments"][0].update(cidr=HOSTILE, hosts=[HOSTILE, "n2", "n3"])
    steps = "told.scripts = document.scripts.length;"
    seen = look(render(found, TEMPLATES), steps)
    # The data and the page's own, axe-core and this test.
    assert seen == Seen([], {"scripts": 4, "axe": [], "requests": []})


def test_what_would_be_wrong_is_seen(look: Callable[..., Seen], tmp_path: Path) -> None:
    page = render(network(tmp_path, 3), TEMPLATES)
    worse = page.replace(
        "</main>", '<img src="http://192.0.2.1/x.png"><script>nobody()</script></main>'
    )
    seen = look(worse)
    assert any("nobody is not defined" in one for one in seen.console)
    assert any("Content Security Policy" in one for one in seen.console)
    assert [one for one in seen.told["axe"] if one.startswith("image-alt")]
