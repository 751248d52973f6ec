"""Pods with hostPorts, the rules of a kube-proxy, and who reaches what: over TCP, from everywhere.

Pods are attached by the real CNI plugins, as a container runtime would (`CNI_COMMAND=ADD` with the
capability portMappings). Rules are those that kube-proxy 1.3x writes in its iptables mode.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab import Lab
from lab.addresses import OUTSIDE, OUTSIDE6
from tests.traffic.watch import code_archive

OUTSIDE_NAME = "outside"
POD_PORT, HOST_PORT, OUTSIDE_PORT, SERVICE_PORT, NODE_PORT = 8080, 8081, 8082, 80, 30080
WEB, CLIENT = "web", "client"

#: Where a host keeps what is needed to take its pods away.
_STATE = "/run/scenario-pods.json"

_IMPORT = """
import base64, json, subprocess, sys, tempfile
from pathlib import Path
archive = tempfile.NamedTemporaryFile(suffix=".zip")
archive.write(base64.b64decode("ARCHIVE"))
archive.flush()
sys.path.insert(0, archive.name)
from podnet.cni.chain import Attachment, PluginChain
def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
"""

#: A server needs a moment to come up, and an address may be looked for twice (RFC 4862).
_AWAIT = """
import socket, time
def await_server(address, port, tries=200):
    for _number in range(tries):
        try:
            return socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody answers at {address} port {port}")
"""

#: Makes pods, each with a server that tells who it is and who has asked; prints their addresses.
_ADD = """
text = Path("/etc/cni/net.d/10-podnet.conflist").read_text()
chain = PluginChain.from_text(text, ["/opt/cni/bin", "/usr/lib/cni"])
state, answer = [], {}
for name, mappings in PODS.items():
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    attachment = Attachment(f"scenario-{name}", f"/run/netns/{name}")
    given = {"portMappings": mappings}
    result = chain.add(attachment, given)
    state.append([name, text, result, given])
    Path(STATE).write_text(json.dumps(state))
    answer[name] = [one["address"].partition("/")[0] for one in result["ips"]]
    run("systemd-run", "--quiet", "--collect", f"--unit=pod-{name}", "ip", "netns", "exec", name,
        "python3", "-c", SERVER, name, str(PORT))
for addresses in answer.values():
    for address in addresses:
        await_server(address, PORT)
print(json.dumps(answer))
"""

_DELETE = """
state = json.loads(Path(STATE).read_text()) if Path(STATE).exists() else []
for name, text, result, given in state:
    subprocess.run(["systemctl", "stop", f"pod-{name}"], stderr=subprocess.DEVNULL)
    chain = PluginChain.from_text(text, ["/opt/cni/bin", "/usr/lib/cni"])
    if Path("/run/netns", name).exists():
        chain.delete(Attachment(f"scenario-{name}", f"/run/netns/{name}"), result, given)
    subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
if state:
    Path(STATE).unlink()
"""

_SERVER = """
import socket, sys, threading
name, port = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind(("::", port))
listener.listen(64)
while True:
    connection, address = listener.accept()
    with connection:
        connection.sendall(f"{name} {address[0].replace('::ffff:', '')}".encode())
"""

#: Asks all TARGETS at once, TIMES each; prints for each all its different answers, "" for none.
_ASK = """
import json, socket
from concurrent.futures import ThreadPoolExecutor
def ask(target):
    try:
        with socket.create_connection(target, 4) as one:
            one.settimeout(4)
            return one.recv(100).decode()
    except OSError:
        return ""
asked = [tuple(one) for one in TARGETS for _number in range(TIMES)]
with ThreadPoolExecutor(max(1, len(asked))) as pool:
    answers = list(pool.map(ask, asked))
print(json.dumps([sorted(set(answers[at:at + TIMES])) for at in range(0, len(asked), TIMES)]))
"""

#: What kube-proxy has in the table filter, in short: it accepts what it has marked, and drops what
#: conntrack does not know.
_FILTER = """\
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""

Target = tuple[str, int]


@dataclass(frozen=True)
class Place:
    """From where is asked: `host` is a host's name or OUTSIDE_NAME, `pod` one of its pods or ""."""

    host: str
    pod: str = ""


class Services:
    """The pods and servers of a lab: on each host one that serves and one that only asks."""

    def __init__(self, lab: Lab) -> None:
        """Make them."""
        self.lab = lab
        #: (host, pod) -> its addresses by family.
        self.addresses: dict[tuple[str, str], dict[int, str]] = {}
        self._code = _IMPORT.replace("ARCHIVE", base64.b64encode(code_archive()).decode())
        #: Service -> its endpoints.
        self.endpoints: dict[str, Sequence[str]] = {}
        for host in lab.hosts:
            self._start(host)
        # Nobody but the pod's own host forwards to it, so this one is asked by hosts and pods alike.
        inside = ["ip", "netns", "exec", lab.netns]
        self._outside = subprocess.Popen(
            [*inside, sys.executable, "-c", _SERVER, OUTSIDE_NAME, str(OUTSIDE_PORT)]
        )
        try:
            calls = "".join(f"await_server{one!r}\n" for one in self.outside())
            lab.run_outside(["python3", "-"], stdin=_AWAIT + calls)
        except BaseException:
            self.close()
            raise

    def _start(self, host: str) -> None:
        mapping = {"hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": "tcp"}
        pods = {f"{WEB}-{host}": [mapping], f"{CLIENT}-{host}": []}
        names = f"PODS, STATE, PORT, SERVER = {pods!r}, {_STATE!r}, {POD_PORT}, {_SERVER!r}\n"
        answer = self.lab.run(
            host, ["python3", "-"], stdin=self._code + _AWAIT + names + _ADD
        ).stdout
        for pod, addresses in json.loads(answer).items():
            self.addresses[host, pod] = {6 if ":" in one else 4: one for one in addresses}

    def _stop(self, host: str) -> None:
        script = f"{self._code}STATE = {_STATE!r}\n{_DELETE}"
        self.lab.run(host, ["python3", "-"], stdin=script)

    def restart(self, host: str) -> None:
        """Make a host's pods anew."""
        self._stop(host)
        self._start(host)

    def addresses_of(self, service: str) -> tuple[str, str]:
        """Return a Service's addresses, IPv4 and IPv6."""
        number = 10 + list(self.endpoints).index(service)
        return f"10.96.0.{number}", f"fd00:96::{number}"

    def gateway(self, host: str, family: int) -> str:
        """Return the bridge's address."""
        return re.sub(r"[0-9a-f]+\Z", "1", self.pod(f"{WEB}-{host}", family))

    def outside(self) -> list[Target]:
        """Return the server outside, in both families."""
        return [(OUTSIDE, OUTSIDE_PORT), (OUTSIDE6, OUTSIDE_PORT)]

    def pod(self, name: str, family: int) -> str:
        """Return a pod's address."""
        return next(own[family] for (_host, pod), own in self.addresses.items() if pod == name)

    def be_kube_proxy(self, services: Mapping[str, Sequence[str]]) -> None:
        """Write on all hosts the rules of `services`: name -> the names of its endpoints."""
        self.endpoints = dict(services)
        for host in self.lab.hosts:
            for family in (4, 6):
                rules = self._rules(services, family)
                tool = "iptables-restore" if family == 4 else "ip6tables-restore"
                self.lab.run(host, [tool, "--noflush"], stdin=rules)

    def _rules(self, services: Mapping[str, Sequence[str]], family: int) -> str:
        """Return what `iptables-restore` reads; chains are named and ordered as kube-proxy does."""
        cluster = "10.244.0.0/16" if family == 4 else "fd00:10:244::/48"
        every = 32 if family == 4 else 128
        chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
        lines = [
            "-A PREROUTING -j KUBE-SERVICES",
            "-A OUTPUT -j KUBE-SERVICES",
            "-A POSTROUTING -j KUBE-POSTROUTING",
            "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
            "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        ]
        for number, (name, endpoints) in enumerate(services.items()):
            service, own = f"KUBE-SVC-{name}", self.addresses_of(name)[family == 6]
            chains += [service, f"KUBE-EXT-{name}"]
            lines += [
                f"-A KUBE-SERVICES -d {own}/{every} -p tcp -m tcp --dport {SERVICE_PORT} -j {service}",
                f"-A KUBE-NODEPORTS -p tcp -m tcp --dport {NODE_PORT + number} -j KUBE-EXT-{name}",
                f"-A KUBE-EXT-{name} -j KUBE-MARK-MASQ",
                f"-A KUBE-EXT-{name} -j {service}",
                f"-A {service} ! -s {cluster} -d {own}/{every} -p tcp -m tcp --dport {SERVICE_PORT} "
                "-j KUBE-MARK-MASQ",
            ]
            for at, endpoint in enumerate(endpoints):
                if endpoint == OUTSIDE_NAME:
                    address, port = OUTSIDE if family == 4 else OUTSIDE6, OUTSIDE_PORT
                else:
                    address, port = self.pod(endpoint, family), POD_PORT
                chain, left = f"KUBE-SEP-{name}-{at}", len(endpoints) - at
                share = f"-m statistic --mode random --probability {1 / left} " * (left > 1)
                to = f"[{address}]:{port}" if family == 6 else f"{address}:{port}"
                chains.append(chain)
                lines += [
                    f"-A {service} {share}-j {chain}",
                    f"-A {chain} -s {address}/{every} -j KUBE-MARK-MASQ",
                    f"-A {chain} -p tcp -m tcp -j DNAT --to-destination {to}",
                ]
        lines.append("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
        nat = ["*nat", *(f":{one} - [0:0]" for one in chains), *lines, "COMMIT"]
        return "\n".join([*nat, _FILTER])

    def close(self) -> None:
        """Take pods away, and what plugins and kube-proxy leave in the tables of iptables."""
        self._outside.kill()
        self._outside.wait()
        for host in self.lab.hosts:
            self._stop(host)
            for table in ("ip nat", "ip6 nat", "ip filter", "ip6 filter"):
                self.lab.run(host, ["nft", "delete", "table", *table.split()], check=False)

    def ask(self, place: Place, targets: Sequence[Target], times: int = 1) -> list[list[str]]:
        """Return for each target all the different answers that `times` connections brought."""
        script = f"TARGETS, TIMES = {[list(one) for one in targets]!r}, {times}\n{_ASK}"
        if place.host == OUTSIDE_NAME:
            said = self.lab.run_outside(["python3", "-"], stdin=script).stdout
        else:
            inside = ["ip", "netns", "exec", place.pod] if place.pod else []
            said = self.lab.run(place.host, [*inside, "python3", "-"], stdin=script).stdout
        answers: list[list[str]] = json.loads(said)
        return answers
