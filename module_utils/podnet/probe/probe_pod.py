"""A temporary pod for probing, made with the node's own CNI configuration and removed afterwards.

The pod is a network namespace. The plugins of the configuration attach it exactly as they attach a
container, and a responder listens in it until it is removed. Before anything is made,
/run/podnet/NAME/probe.json records it, so that the next run can remove what a killed one left.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from ..cni.chain import Attachment, PluginChain
from ..cni.cni_record import read_record
from ..cni.configuration import plugin_directories
from ..core.errors import PodnetError
from ..core.model import Plan, is_network_name, offset, split_cidr
from ..keep import files, leases
from ..kernel.netns import interface_mtu
from . import responder

_NAMESPACES = "/run/netns"


@dataclass(frozen=True)
class Pod:
    """A probe pod: `netns` is the path of its namespace, `mtu` its MTU in bytes.

    Addresses and gateways are "" for a family that it does not have. `udp` and `tcp` are the ports
    on which its responder listens.
    """

    netns: str
    address: str
    address6: str
    gateway: str
    gateway6: str
    mtu: int
    udp: int = 0
    tcp: int = 0


def make(plan: Plan, node_name: str, text: str | None = None, **more: Any) -> Pod:
    """Make the pod on this host, which is `node_name` in the plan; replace an earlier one.

    `text` is the CNI configuration, by default the node's own. `more` is recorded for `remove`: the
    routing `table` of the proof, and the directory that host-local `made`. Raises PodnetError when
    there is no CNI configuration, a plugin fails, or the pod does not get an address of each of the
    node's subnets. Nothing is left behind then.
    """
    node = plan.nodes.get(node_name)
    if node is None:
        raise PodnetError(f"{node_name}: not in the plan of {plan.name!r}")
    path = f"{plan.cni.conf_dir}/{plan.cni.conf_name}"
    if text is None:
        text = files.read_text(path)
    if text is None:
        raise PodnetError(f"{node_name}: no CNI configuration at {path}; run site.yml first")
    remove(plan.name)
    name = leases.PROBE + binascii.hexlify(os.urandom(4)).decode()
    record: dict[str, Any] = {
        "netns": name,
        "conflist": text,
        "directories": list(plugin_directories(plan, read_record(plan.name).archive_dir)),
        "node": node_name,
        **more,
    }
    _write_record(plan.name, record)
    try:
        _ip("netns", "add", name)
        chain = PluginChain.from_text(text, record["directories"])
        result = chain.add(_attachment(name))
        record["result"] = result
        pod = Pod(
            netns=f"{_NAMESPACES}/{name}",
            address=_address(result, 4),
            address6=_address(result, 6),
            gateway=offset(split_cidr(node.subnet)[0], 1) if node.subnet else "",
            gateway6=offset(split_cidr(node.subnet6)[0], 1) if node.subnet6 else "",
            mtu=interface_mtu("eth0", f"{_NAMESPACES}/{name}") or 0,
        )
        for subnet, address in ((node.subnet, pod.address), (node.subnet6, pod.address6)):
            if subnet and not address:
                raise PodnetError(
                    f"{node_name}: {path} gives pods no address of {subnet}; run site.yml"
                )
        answers = responder.start(pod.netns, lambda: _expire(plan.name, name))
        record["responder"] = [answers.process, answers.born]
        pod = replace(pod, udp=answers.udp, tcp=answers.tcp)
        record["pod"] = vars(pod)
        _write_record(plan.name, record)
    except BaseException:
        remove(plan.name)
        raise
    return pod


def read(name: str) -> Pod:
    """Return the pod that `make` recorded; raises PodnetError when there is none, or it is gone."""
    record = _read_record(name)
    try:
        pod = Pod(**record["pod"])
    except (KeyError, TypeError) as error:
        raise PodnetError(
            f"no probe pod of network {name!r} on this host; run podnet_probe with state=present "
            "first"
        ) from error
    if not Path(pod.netns).exists():
        raise PodnetError(
            f"the probe pod {pod.netns} is gone; does a second verify run on this host?"
        )
    return pod


def missing_directory(name: str) -> str:
    """Return the path of the topmost directory that host-local will have to make, "" for none."""
    missing = ""
    for path in (Path(leases.directory(name)), *Path(leases.directory(name)).parents):
        if path.exists():
            break
        missing = str(path)
    return missing


def exists(name: str) -> bool:
    """Whether a probe pod of network `name`, or a remnant of one, is on this host."""
    return bool(_read_record(name)) or bool(leases.of_probes(name))


def remove(name: str) -> list[str]:
    """Remove the pod, and whatever a killed run left; return warnings instead of raising.

    If the plugins cannot detach it (they or the bridge are gone), its interface and its lease
    are removed here.
    """
    warnings: list[str] = []
    record = _read_record(name)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        process, born = record["responder"]
        responder.stop(int(process), str(born))
    try:
        _drop_way(record)
    except PodnetError as error:
        warnings.append(str(error))
    namespace = str(record.get("netns", ""))
    if namespace.startswith(leases.PROBE) and "/" not in namespace:
        try:
            chain = PluginChain.from_text(str(record["conflist"]), list(record["directories"]))
            chain.delete(_attachment(namespace), record.get("result"))
        except (PodnetError, KeyError, TypeError) as error:
            warnings.append(f"probe pod {namespace}: {error}")
            # With the namespace it would go, too, but only when the kernel comes to it.
            with contextlib.suppress(PodnetError):
                _ip("-n", namespace, "link", "delete", "dev", "eth0")
        if Path(_NAMESPACES, namespace).exists():
            try:
                _ip("netns", "delete", namespace)
            except PodnetError as error:
                warnings.append(str(error))
    for lease in leases.of_probes(name):
        with contextlib.suppress(OSError):
            lease.unlink()
    made = str(record.get("made", ""))
    if made and not leases.addresses(name):
        # host-local made these directories for the probe pod, and no other pod uses them.
        shutil.rmtree(leases.directory(name), ignore_errors=True)
        above = Path(leases.DIRECTORY)
        with contextlib.suppress(OSError):
            while str(above).startswith(made):
                above.rmdir()
                above = above.parent
    directory = Path(_directory(name))
    with contextlib.suppress(OSError):
        (directory / "probe.json").unlink()
    for one in (directory, directory.parent):
        with contextlib.suppress(OSError):
            one.rmdir()
    return warnings


def rejoin(name: str) -> None:
    """Let the pod's packets take the same routes as other pods': remove its `source_route`, if any.

    Raises PodnetError.
    """
    record = _read_record(name)
    if record.get("table"):
        _drop_way(record)
        _write_record(name, dict(record, table=0))


def _drop_way(record: Mapping[str, Any]) -> None:
    table = record.get("table")
    if isinstance(table, int) and table:
        from ..kernel import source_route

        source_route.drop(table)


def _expire(name: str, namespace: str) -> None:
    """Remove a pod whose responder's time is up, unless another pod has taken its place."""
    if _read_record(name).get("netns") == namespace:
        remove(name)


def _attachment(namespace: str) -> Attachment:
    return Attachment(container=namespace, netns=f"{_NAMESPACES}/{namespace}")


def _directory(name: str) -> str:
    if not is_network_name(name):
        raise PodnetError(f"name: {name!r} is no name of a network")
    return f"/run/podnet/{name}"


def _write_record(name: str, record: Mapping[str, Any]) -> None:
    path = Path(_directory(name))
    try:
        # Not by `files.make_directories`, which would remember the directory in /etc.
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PodnetError(f"{path}: cannot make it ({error.strerror})") from error
    files.write_text(str(path / "probe.json"), json.dumps(record), 0o600)


def _read_record(name: str) -> dict[str, Any]:
    try:
        record = json.loads(Path(_directory(name), "probe.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _address(result: Mapping[str, Any], family: int) -> str:
    """Return the pod's first address of a family from a CNI result (spec 1.0.0, section 5)."""
    for entry in result.get("ips", ()):
        address = str(entry.get("address", "")).partition("/")[0]
        if address and (":" in address) == (family == 6):
            return address
    return ""


def _ip(*arguments: str) -> None:
    program = shutil.which("ip") or "/sbin/ip"
    try:
        done = subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PodnetError(f"ip {' '.join(arguments)}: {error}") from error
    if done.returncode != 0:
        raise PodnetError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
