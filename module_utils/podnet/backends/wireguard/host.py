"""WireGuard on a host.

A device, a peer for each node with the CIDRs of its pods (wg(8), allowed-ips), and routes over the
device, on which a packet of the host's own has the bridge's address.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Mapping

from ...core.errors import PodnetError
from ...core.host_view import HostView
from ...core.model import Node, Plan, is_int, is_interface_name, is_key, offset, split_cidr
from ...core.state import Link, State
from ...core.text import listed
from ..base import Backend, HostTools, Secrets, Settings, peers
from .device import (
    KEEPALIVE,
    KEY_FILE,
    VARIABLE,
    Peer,
    PortAndKey,
    directory,
    fingerprint,
    key_file,
    psk_file,
)

#: Outer IPv4 20 (IPv6 40) + UDP 8 + WireGuard 32 bytes: type 4, receiver 4, counter 8, tag 16
#: (the WireGuard paper, section 5.4.6).
OVERHEAD = {4: 60, 6: 80}

#: The kernel sets it to 0 when its device is brought up (wg_open in drivers/net/wireguard), never
#: back: so it is a setting that podnet makes, whose old value is recorded.
SEND_REDIRECTS = "net.ipv4.conf.all.send_redirects"

#: What podnet_wireguard_endpoint says of a node that peers cannot send to first.
BEHIND_NAT = "none"

#: Seconds after which a session is renewed (REKEY_AFTER_TIME, section 6.1 of the paper), and how
#: long to wait for sessions with all peers: twice what a lost handshake costs.
REKEY_AFTER = 120
WARM_UP = 11.0

#: Seconds that who begins has before the other one does.
FIRST = 2.0


class Wireguard(Backend):
    """One device, a peer for each node, and a route for each family."""

    settings: ClassVar[Settings] = {
        "port": lambda value: is_int(value, 1, 65535),
        "device": is_interface_name,
        "psk": lambda value: value == "" or (isinstance(value, str) and len(value) == 16),
    }
    node_settings: ClassVar[Settings] = {
        "endpoint": lambda value: isinstance(value, str),
        "keepalive": lambda value: is_int(value, 0, 65535),
        "userspace": lambda value: isinstance(value, bool),
    }
    has_keys = True
    # Its private keys lie in files of flannel's, and peers know its public ones.
    is_adoptable = False

    def overhead(self, plan: Plan) -> int:
        """Return 60 bytes over IPv4, 80 over IPv6."""
        return OVERHEAD[plan.underlay]

    def families(self, plan: Plan, node: Node) -> set[int]:
        """Return the underlay's."""
        return {plan.underlay}

    def own_devices(self, plan: Plan) -> dict[str, str]:
        """Return the WireGuard device."""
        return {plan.settings["device"]: VARIABLE}

    def facts(self, plan: Plan, node: Node, tools: HostTools) -> dict[str, str]:
        """Return what makes the device, the host's public keys, and addresses of peers' names.

        "way" is "kernel" or "userspace"; "keys" are those whose private keys the host has, with
        blanks between them; "live" is the device's key, asked where there are none; "wrong" says
        what is wrong with a file of a private key; "at NAME" are addresses with "|" between them.
        """
        tools.output(["wg", "--version"], "")
        found = {"way": "kernel"}
        trial = ["unshare", "--net", "ip", "link", "add", "podnet-try", "type", "wireguard"]
        if node.settings["userspace"] and tools.output(trial, "") is None:
            tools.output(["wireguard-go", "--version"], "")
            found["way"] = "userspace"
        try:
            keys = self.own_keys(plan.name, tools)
        except PodnetError as error:
            keys, found["wrong"] = [], str(error)
        found["keys"] = " ".join(keys)
        found["live"] = "" if keys else _key_of(_live(plan, tools), tools)
        for peer in peers(plan, node):
            name, _port, is_name = _split(peer.settings["endpoint"], plan)
            if is_name:
                found[f"at {name}"] = "|".join(tools.resolve(name, plan.underlay))
        return found

    def secrets(self, plan: Plan, node: Node) -> Secrets:
        """Return the private key, and the shared key if there is one."""
        found = {key_file(plan.name, node.key): _of_key(node.key)} if node.key else {}
        if plan.settings["psk"]:
            found[psk_file(plan.name)] = _of_psk(plan.settings["psk"])
        return found

    def secrets_on(self, name: str, tools: HostTools) -> Secrets:
        """Return the files of keys that are on the host."""
        found = {}
        for path in _key_files(name, tools):
            try:
                found[path] = _of_key(_key_of(tools.text(path) or "", tools))
            except PodnetError:  # without wg(8); the file can be removed all the same
                found[path] = _of_key("")
        text = tools.text(psk_file(name))
        if text is not None:
            found[psk_file(name)] = _of_psk(fingerprint(text.strip()))
        return found

    def secret_contents(
        self, plan: Plan, tools: HostTools, given: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the shared key as it was given, and a lost private key from the device."""
        found = {}
        psk = given.get("psk", "")
        if plan.settings["psk"] and psk:
            if fingerprint(psk) != plan.settings["psk"]:
                raise PodnetError("secrets: psk is not the key that the plan was made with")
            found[psk_file(plan.name)] = f"{psk}\n"
        live = _live(plan, tools)
        if live:
            found[key_file(plan.name, _key_of(live, tools))] = live
        return found

    def own_keys(self, name: str, tools: HostTools) -> list[str]:
        """Return the public keys that belong to the files of private keys.

        Raises PodnetError for a file that holds no key, or that others may read.
        """
        found = []
        for path in _key_files(name, tools):
            mode = tools.mode(path)
            if mode & 0o077:
                raise PodnetError(
                    f"{path} has mode {mode:04o}, so others may have read the private key. Remove "
                    "it, and the host's key from the allocations file: the next run makes a new "
                    "one. Or chmod 600 it, if you know that nobody has"
                )
            key = _key_of(tools.text(path) or "", tools)
            if not key or key_file(name, key) != path:
                raise PodnetError(
                    f"{path} does not hold the private key that it is named after. Restore it from "
                    "a backup; or remove it, and the host's key from the allocations file: the "
                    "next run makes a new one"
                )
            found.append(key)
        return found

    def new_key(self, name: str, tools: HostTools) -> tuple[str, str, str]:
        """Return a new key pair of `wg genkey`."""
        text = tools.output(["wg", "genkey"], "") or ""
        key = _key_of(text, tools)
        if not key:
            raise PodnetError("wg genkey: made no key")
        return key_file(name, key), text, key

    def devices(self, plan: Plan, node: Node, host: HostView, mtu: int, state: State) -> None:
        """Add the device."""
        userspace = host.facts.get("way") == "userspace"
        if not userspace:
            state.sysctls[SEND_REDIRECTS] = "0"
        state.links[plan.settings["device"]] = Link(
            kind="tun" if userspace else "wireguard",
            mtu=mtu,
            mac="",
            alias=f"podnet:{plan.name}",
            options=PortAndKey(plan.settings["port"], node.key).text(),
        )
        if node.subnet:
            # With no address at all, a device takes nothing whose way back is another one, even
            # with a loose rp_filter (__fib_validate_source in fib_frontend.c): as in a switch.
            state.addresses[plan.settings["device"], split_cidr(node.subnet)[0] + "/32"] = ""

    def peer(self, plan: Plan, node: Node, host: HostView, peer: Node, state: State) -> None:
        """Add the peer and the routes to its subnets; nothing while its key is not known."""
        if not peer.key:
            return
        device = plan.settings["device"]
        psk = plan.settings["psk"]
        subnets = [one for one in (peer.subnet, peer.subnet6) if one]
        state.entries[device, peer.key] = Peer(
            tuple(sorted(subnets)),
            _endpoints(plan, host, peer),
            node.settings["keepalive"],
            psk,
            psk_file(plan.name) if psk else "",
        ).text()
        if peer.subnet and node.subnet:
            source = offset(split_cidr(node.subnet)[0], 1)
            state.routes[peer.subnet] = f"dev {device} scope link src {source}"
        if peer.subnet6 and node.subnet6:
            source = offset(split_cidr(node.subnet6)[0], 1)
            state.routes[peer.subnet6] = f"dev {device} src {source}"

    def is_switch(self, node: Node, host: HostView, have: Link, want: Link) -> bool:
        """Whether the device has another one of the host's own keys: they are being rotated."""
        old, new = PortAndKey.read(have.options), PortAndKey.read(want.options)
        return old.key not in ("", new.key) and old.key in host.facts.get("keys", "").split()

    def warm_up(self, plan: Plan, node: Node, tools: HostTools) -> list[str]:
        """Make sessions with all peers, so that no packet waits for a handshake.

        Of each pair one begins: where both do, they may throw each other's handshake away, and both
        try again after 5 s (REKEY_TIMEOUT, section 6.1 of the paper). The other one begins a
        moment later: a peer that has rebooted is still in session for who should begin.
        """
        device = plan.settings["device"]
        others = {peer.key: peer for peer in peers(plan, node) if peer.key}
        order = {name: number for number, name in enumerate(plan.nodes)}
        begun: set[str] = set()
        begin = time.monotonic()
        while True:
            sessions = _sessions(device, tools)
            waiting = {key for key in others if sessions.get(key) is False}
            passed = time.monotonic() - begin
            for key in sorted(waiting - begun):
                if _begins(node, others[key], order) or passed > FIRST:
                    # Sends at once (wg(8)); the peer's own value comes right after it.
                    usual = str(node.settings["keepalive"])
                    for seconds in ("off", str(KEEPALIVE), usual):
                        words = ["peer", key, "persistent-keepalive", seconds]
                        tools.output(["wg", "set", device, *words], "")
                    begun.add(key)
            if not waiting or passed > WARM_UP:
                break
            time.sleep(0.1)
        if not waiting:
            return []
        silent = listed([others[key].name for key in sorted(waiting)], 5)
        return [f"{node.name}: no WireGuard handshake with {silent} within {WARM_UP:.0f} s"]

    def problems(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Return what is wrong with the host's key, and names of peers that it cannot resolve."""
        found = []
        keys = [*host.facts.get("keys", "").split(), *host.facts.get("live", "").split()]
        if "wrong" in host.facts:
            found.append(f"{node.name}: {host.facts['wrong']}")
        elif node.key and node.key not in keys:
            has = f"the host's is {keys[0]}" if keys else "the host has no private key"
            found.append(
                f"{node.name}: the allocations file says that its public key is {node.key}, and "
                f"{has}. If the machine was replaced or restored, delete its key (`key: ...`) from "
                f"its line in that file: the next run asks the host for the key that it has, or "
                "makes one"
            )
        lost = [
            f"{name} ({peer.name})"
            for peer in peers(plan, node)
            for name, _port, is_name in (_split(peer.settings["endpoint"], plan),)
            if is_name and not host.facts.get(f"at {name}")
        ]
        if lost:
            found.append(
                f"{node.name}: podnet_wireguard_endpoint: it finds no IPv{plan.underlay} address "
                f"of {listed(lost, 3)}. Correct the name, or the host's resolver"
            )
        return found

    def notes(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Name the peers whose keys are not known yet."""
        lacking = [peer.name for peer in peers(plan, node) if not peer.key]
        if not lacking or not node.key:
            return []
        return [
            f"{node.name}: no public key is known of {listed(lacking, 5)}, so its pods cannot be "
            "reached; a run of site.yml asks the host for it"
        ]

    def parameters(self, plan: Plan) -> dict[str, Any]:
        """Return all but the shared key, which may change under way."""
        found = super().parameters(plan)
        del found["psk"]
        return found


def _key_files(name: str, tools: HostTools) -> list[str]:
    top = directory(name)
    return [f"{top}/{one}" for one in tools.names(top) if KEY_FILE.match(one)]


def _begins(node: Node, peer: Node, order: Mapping[str, int]) -> bool:
    """Whether `node`, and not `peer`, begins the handshake; `order` is that of the plan."""
    hidden = [one.settings["endpoint"] == BEHIND_NAT for one in (node, peer)]
    if hidden[0] != hidden[1]:
        return bool(hidden[0])
    return order[node.name] < order[peer.name]


def _sessions(device: str, tools: HostTools) -> dict[str, bool]:
    """Return public key -> whether its last handshake holds, of the device's peers."""
    said = tools.output(["wg", "show", device, "latest-handshakes"], "") or ""
    pairs = [line.split("\t") for line in said.splitlines()]
    now = time.time()
    return {pair[0]: now - float(pair[1]) < REKEY_AFTER for pair in pairs if len(pair) == 2}


def _of_key(key: str) -> str:
    return f"the private key of {key or 'nobody'}"


def _of_psk(psk: str) -> str:
    return f"a shared key, fingerprint {psk}"


def _key_of(private: str, tools: HostTools) -> str:
    """Return the public key of a private one, "" if it is none."""
    if not is_key(private.strip()):
        return ""
    return (tools.output(["wg", "pubkey"], private) or "").strip()


def _live(plan: Plan, tools: HostTools) -> str:
    """Return the private key that the network's device has, "" without one."""
    said = tools.output(["wg", "show", plan.settings["device"], "private-key"], "") or ""
    return said if is_key(said.strip()) else ""


def _split(endpoint: str, plan: Plan) -> tuple[str, int, bool]:
    """Return (address or name, port, whether it is a name) of a podnet_wireguard_endpoint."""
    if endpoint in ("", BEHIND_NAT):
        return "", 0, False
    host, port = endpoint, ""
    if endpoint.startswith("["):
        host, _mark, port = endpoint[1:].partition("]")
        port = port[1:]
    elif endpoint.count(":") == 1:
        host, _mark, port = endpoint.partition(":")
    is_name = ":" not in host and not host.replace(".", "").isdigit()
    return host, int(port or plan.settings["port"]), is_name


def _endpoints(plan: Plan, host: HostView, peer: Node) -> tuple[str, ...]:
    """Return the addresses with ports that the peer may have; none for one behind NAT."""
    said = peer.settings["endpoint"]
    if said == BEHIND_NAT:
        return ()
    address, port, is_name = _split(said, plan)
    if not address:
        address, port = (peer.ip if plan.underlay == 4 else peer.ip6), plan.settings["port"]
    found = host.facts.get(f"at {address}", "").split("|") if is_name else [address]
    return tuple(f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in found if one)
