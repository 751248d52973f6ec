"""A small model of the kernel's network: it executes the very lines that podnet writes.

It refuses what the kernel refuses and drops what the kernel drops. A line that it does not know is
an error of the test, never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from podnet.core.model import pack

MAIN = "main"

#: What a device gets from `default` when it is made, and what a write to `all` may change.
PER_DEVICE = (
    "net.ipv4.conf.{}.forwarding",
    "net.ipv4.conf.{}.rp_filter",
    "net.ipv6.conf.{}.forwarding",
    "net.ipv6.conf.{}.accept_ra",
    "net.ipv6.conf.{}.disable_ipv6",
    *(
        f"net.ipv{family}.neigh.{{}}.{key}"
        for family in (4, 6)
        for key in ("delay_first_probe_time", "locktime", "mcast_resolicit", "ucast_solicit")
    ),
)


class Refused(Exception):
    """The kernel, or the tool in front of it, says no; the text is theirs."""


class UnknownLine(AssertionError):
    """The model does not know a line: it has to learn it."""


class Device(NamedTuple):
    """A network device. `fixed`: a bridge's MTU was set, so it does not follow the ports."""

    number: int
    kind: str
    mtu: int
    mac: str
    alias: str = ""
    up: bool = False
    vni: int = 0
    port: int = 0
    local: str = ""
    learning: bool = True
    master: str = ""
    fixed: bool = False


class Pod(NamedTuple):
    """The pod behind a veth of the bridge: its namespace and the MTU of its own end."""

    namespace: str
    mtu: int


class Route(NamedTuple):
    """A route; `value` is the destination shifted right by the host bits, `size` its bytes."""

    kind: str
    via: str
    device: str
    protocol: str
    scope: str
    source: str
    onlink: bool
    size: int
    length: int
    value: int
    metric: int


#: Table, destination, metric; and the device of IPv6 routes of the kernel's own, which stand side by
#: side.
RouteKey = tuple[str, str, int, str]
Chains = tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]


@lru_cache(maxsize=4096)
def number(address: str) -> tuple[int, int]:
    """Return (bytes, value) of an address."""
    raw = pack(address)
    return len(raw), int.from_bytes(raw, "big")


@lru_cache(maxsize=4096)
def prefix(cidr: str) -> tuple[int, int, int]:
    """Return (bytes, length, value without the host bits) of a CIDR, host bits allowed."""
    address, slash, length = cidr.partition("/")
    size, value = number(address)
    bits = int(length) if slash else size * 8
    return size, bits, value >> (size * 8 - bits)


def network(cidr: str) -> str:
    """Return a CIDR without host bits."""
    from ipaddress import ip_interface

    return str(ip_interface(cidr).network)


def device_key(pattern: str, device: str) -> str:
    """Return the sysctl of a device; "/" stands for "." in its name (sysctl(8))."""
    return pattern.format(device.replace(".", "/"))


@dataclass
class Kernel:
    """One host's network namespace. All values are immutable, so a copy is cheap."""

    devices: dict[str, Device] = field(default_factory=dict)
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)
    routes: dict[RouteKey, Route] = field(default_factory=dict)
    #: (priority, table) beside the kernel's own three.
    rules: dict[tuple[int, str], str] = field(default_factory=dict)
    neighbours: dict[tuple[str, str], str] = field(default_factory=dict)
    fdb: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    tables: dict[str, Chains] = field(default_factory=dict)
    #: (table, set) -> its elements.
    sets: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    next_index: int = 2

    def copy(self) -> Kernel:
        """Return one that can be changed without changing this one."""
        made = Kernel(next_index=self.next_index)
        for key, value in vars(self).items():
            if isinstance(value, dict):
                setattr(made, key, dict(value))
        return made

    def wire(self) -> tuple[object, ...]:
        """Return all that decides what happens to a packet."""
        devices = {
            name: one._replace(number=0, alias="", fixed=False)
            for name, one in self.devices.items()
        }
        routes = {key: one._replace(protocol="") for key, one in self.routes.items()}
        parts = (
            *(devices, self.addresses, routes, self.rules, self.neighbours, self.fdb),
            *(self.tables, self.sets, self.sysctls, self.pods),
        )
        return tuple(frozenset(one.items()) for one in parts)

    def all(self) -> tuple[object, ...]:
        """Return everything, hashable."""
        return tuple(
            frozenset(val.items()) if isinstance(val, dict) else val for val in vars(self).values()
        )

    # Tools

    def execute(self, tool: str, line: str) -> None:
        """Run one line of `ip -batch` or `bridge -batch`, or a "key=value"; may raise Refused."""
        words = line.split()
        if tool == "sysctl":
            key, _, value = line.partition("=")
            self.write_sysctl(key, value)
        elif tool == "bridge" and words[0] == "fdb":
            self._fdb(words[1], words[2:])
        elif tool == "ip" and words[0] in ("link", "addr", "neigh", "route", "rule"):
            getattr(self, f"_{words[0]}")(words[1], words[2:])
        else:
            raise UnknownLine(f"{tool} {line}")

    def _device(self, name: str) -> Device:
        if name not in self.devices:
            raise Refused(f'Cannot find device "{name}"')
        return self.devices[name]

    # Devices

    def _link(self, verb: str, words: list[str]) -> None:
        if verb == "add":
            self._link_add(words)
        elif verb == "set" and words[0] == "dev":
            self._link_set(words[1], words[2:])
        elif verb in ("del", "delete"):
            self._link_del(words[-1])
        else:
            raise UnknownLine(f"link {verb} {words}")

    def _link_add(self, words: list[str]) -> None:
        name, rest = words[0], list(words[1:])
        if name in self.devices:
            raise Refused("RTNETLINK answers: File exists")
        made = Device(self.next_index, "", 1500, f"02:ff:00:00:00:{self.next_index:02x}")
        while rest:
            word = rest.pop(0)
            if word in ("learning", "nolearning"):
                made = made._replace(learning=word == "learning")
                continue
            value = rest.pop(0)
            if word == "mtu":
                made = made._replace(mtu=int(value))
            elif word == "address":
                made = made._replace(mac=value)
            elif word == "type" and value in ("bridge", "vxlan"):
                made = made._replace(kind=value)
            elif word == "id":
                made = made._replace(vni=int(value))
            elif word == "dstport":
                made = made._replace(port=int(value))
            elif word == "local":
                made = made._replace(local=value)
            else:
                raise UnknownLine(f"link add {words}")
        if made.kind == "vxlan" and any(
            (one.vni, one.port) == (made.vni, made.port)
            and (":" in one.local) == (":" in made.local)
            for one in self.devices.values()
            if one.kind == "vxlan"
        ):
            raise Refused("Error: A VXLAN device with the specified VNI already exists.")
        self.add_device(name, made)

    def add_device(self, name: str, made: Device) -> None:
        """Make a device, with the sysctls of `default`."""
        self.devices[name] = made._replace(number=self.next_index)
        self.next_index += 1
        for pattern in PER_DEVICE:
            default = self.sysctls.get(pattern.format("default"))
            if default is not None:
                self.sysctls[device_key(pattern, name)] = default

    def _link_set(self, name: str, words: list[str]) -> None:
        device = self._device(name)
        verb = words[0]
        if verb == "mtu":
            self.devices[name] = device._replace(mtu=int(words[1]), fixed=device.kind == "bridge")
        elif verb == "address":
            self.devices[name] = device._replace(mac=words[1])
            # neigh_changeaddr in net/core/neighbour.c: permanent ones, too.
            self._drop(self.neighbours, name)
        elif verb == "alias":
            self.devices[name] = device._replace(alias=words[1].strip("'"))
        elif verb in ("up", "down"):
            self._set_up(name, verb == "up")
        elif verb == "name":
            self._rename(name, words[1])
        elif verb == "master":
            self._device(words[1])
            self.devices[name] = device._replace(master=words[1])
        elif words[:3] == ["type", "vxlan", "id"] and words[4:5] == ["local"]:
            if (":" in words[5]) != (":" in device.local):
                raise Refused("RTNETLINK answers: Address family not supported by protocol")
            self.devices[name] = device._replace(local=words[5])
        else:
            raise UnknownLine(f"link set dev {name} {words}")

    def _set_up(self, name: str, up: bool) -> None:
        self.devices[name] = self.devices[name]._replace(up=up)
        if not up:
            self._drop_routes(name)
            return
        for device, cidr in self.addresses:
            if device == name:
                self._subnet_route(device, cidr)

    def _rename(self, old: str, new: str) -> None:
        if new in self.devices:
            raise Refused("RTNETLINK answers: File exists")
        self.devices[new] = self.devices.pop(old)
        for table in (self.addresses, self.neighbours, self.fdb):
            moved = {(new if dev == old else dev, key): val for (dev, key), val in table.items()}
            table.clear()
            table.update(moved)  # type: ignore[arg-type]
        for key, route in list(self.routes.items()):
            if route.device == old:
                del self.routes[key]
                moved_key = (*key[:3], new if key[3] else "")
                self.routes[moved_key] = route._replace(device=new)
        for name, one in list(self.devices.items()):
            if one.master == old:
                self.devices[name] = one._replace(master=new)
        for pattern in PER_DEVICE:
            value = self.sysctls.pop(device_key(pattern, old), None)
            if value is not None:
                self.sysctls[device_key(pattern, new)] = value

    def _link_del(self, name: str) -> None:
        self._device(name)
        del self.devices[name]
        for table in (self.addresses, self.neighbours, self.fdb):
            self._drop(table, name)
        self._drop_routes(name)
        for other, one in list(self.devices.items()):
            if one.master == name:
                self.devices[other] = one._replace(master="")
        for pattern in PER_DEVICE:
            self.sysctls.pop(device_key(pattern, name), None)
        self.pods.pop(name, None)

    @staticmethod
    def _drop(table: dict[tuple[str, str], Any], name: str) -> None:
        for key in [key for key in table if key[0] == name]:
            del table[key]

    def _drop_routes(self, device: str) -> None:
        for key in [key for key, one in self.routes.items() if one.device == device]:
            del self.routes[key]

    # Addresses, neighbours, FDB

    def _addr(self, verb: str, words: list[str]) -> None:
        cidr, device = words[0], words[2]
        self._device(device)
        key = device, cidr
        if verb in ("replace", "add"):
            if verb == "add" and key in self.addresses:
                raise Refused("RTNETLINK answers: File exists")
            if key not in self.addresses:
                self.addresses[key] = ""
                if self.devices[device].up:
                    self._subnet_route(device, cidr)
        elif verb == "del":
            if key not in self.addresses:
                raise Refused("RTNETLINK answers: Cannot assign requested address")
            del self.addresses[key]
            local = cidr.partition("/")[0]
            for where, route in list(self.routes.items()):
                if route.source == local and (route.device == device or ":" not in local):
                    del self.routes[where]
            if ":" in cidr:
                self.routes.pop((MAIN, network(cidr), 256, device), None)
        else:
            raise UnknownLine(f"addr {verb} {words}")

    def _subnet_route(self, device: str, cidr: str) -> None:
        six = ":" in cidr
        if cidr.endswith("/32") and not six:
            return
        subnet = network(cidr)
        size, length, value = prefix(subnet)
        metric = 256 if six else 0
        source, scope = ("", "") if six else (cidr.partition("/")[0], "link")
        route = Route(
            "unicast", "", device, "kernel", scope, source, False, size, length, value, metric
        )
        self.routes.setdefault((MAIN, subnet, metric, device if six else ""), route)

    def _neigh(self, verb: str, words: list[str]) -> None:
        given = dict(zip(words[1::2], words[2::2], strict=True))
        device = given["dev"]
        self._device(device)
        key = device, words[0]
        if verb == "replace" and given.get("nud") == "permanent":
            self.neighbours[key] = given["lladdr"]
        elif verb == "del":
            if key not in self.neighbours:
                raise Refused("RTNETLINK answers: No such file or directory")
            del self.neighbours[key]
        else:
            raise UnknownLine(f"neigh {verb} {words}")

    def _fdb(self, verb: str, words: list[str]) -> None:
        mac, device = words[0], words[2]
        remote = words[words.index("dst") + 1]
        if self._device(device).kind != "vxlan":
            raise Refused("RTNETLINK answers: Operation not supported")
        key = device, mac
        have = self.fdb.get(key, ())
        if verb == "replace":
            if len(have) > 1:
                raise Refused("RTNETLINK answers: Operation not supported")
            self.fdb[key] = (remote,)
        elif verb == "append":
            self.fdb[key] = (*have, remote)
        elif verb == "del":
            if remote not in have:
                raise Refused("RTNETLINK answers: No such file or directory")
            rest = tuple(one for one in have if one != remote)
            if rest:
                self.fdb[key] = rest
            else:
                del self.fdb[key]
        else:
            raise UnknownLine(f"fdb {verb} {words}")

    # Routes

    def _rule(self, verb: str, words: list[str]) -> None:
        given = dict(zip(words[::2], words[1::2], strict=True))
        if verb != "add" or given.keys() - {"pref", "lookup"}:
            raise UnknownLine(f"rule {verb} {words}")
        self.rules[int(given["pref"]), given["lookup"]] = ""

    def _route(self, verb: str, words: list[str]) -> None:
        words = list(words)
        kind = "unicast"
        if words[0] in ("blackhole", "unreachable", "prohibit", "throw", "unicast"):
            kind = words.pop(0)
        destination = words.pop(0)
        given: dict[str, str] = {}
        while words:
            word = words.pop(0)
            if word == "onlink":
                given[word] = "yes"
            elif word == "via" and words[0] in ("inet6", "inet"):
                words.pop(0)
                given[word] = words.pop(0)
            elif word in ("via", "dev", "proto", "scope", "src", "metric", "table"):
                given[word] = words.pop(0)
            else:
                raise UnknownLine(f"route {verb} {destination} {word}")
        six = ":" in destination
        if "/" not in destination:
            destination += "/128" if six else "/32"
        size, length, value = prefix(destination)
        metric = int(given.get("metric", 1024 if six else 0))
        key = given.get("table", MAIN), destination, metric, ""
        if verb == "del":
            have = self.routes.get(key)
            if have is None or given.get("dev", have.device) != have.device:
                raise Refused("RTNETLINK answers: No such process")
            del self.routes[key]
            return
        if verb not in ("replace", "add"):
            raise UnknownLine(f"route {verb}")
        if verb == "add" and key in self.routes:
            raise Refused("RTNETLINK answers: File exists")
        device, via = given.get("dev", ""), given.get("via", "")
        if device and not self._device(device).up:
            raise Refused("RTNETLINK answers: Network is down")
        if via:
            device = self._check_gateway(via, device, "onlink" in given, six)
        protocol, scope = given.get("proto", "boot"), given.get("scope", "")
        source, onlink = given.get("src", ""), "onlink" in given
        self.routes[key] = Route(
            kind, via, device, protocol, scope, source, onlink, size, length, value, metric
        )

    def _check_gateway(self, via: str, device: str, onlink: bool, six: bool) -> str:
        """Return the device; raise as fib_check_nh and ip6_route_check_nh(_onlink) do."""
        found = self.lookup_table(MAIN, via)
        if onlink:
            # IPv6 refuses a gateway that it would reach over another device, the default aside.
            if six and found and found.length and found.device != device:
                raise Refused("Error: Nexthop has invalid gateway or device mismatch.")
            return device
        if found is None or found.via or (device and found.device != device):
            raise Refused("Error: Nexthop has invalid gateway.")
        return found.device

    def lookup_table(self, table: str, address: str) -> Route | None:
        """Return the longest prefix of one table that holds an address, the least metric first."""
        size, value = number(address)
        best: Route | None = None
        for (where, _, _, _), route in self.routes.items():
            if where != table or route.size != size:
                continue
            if value >> (size * 8 - route.length) != route.value:
                continue
            if best is None or (route.length, -route.metric) > (best.length, -best.metric):
                best = route
        return best

    def lookup(self, address: str) -> Route | None:
        """Return the route of the policy rules in turn; None where there is none."""
        tables = [table for _, table in sorted(self.rules)]
        for table in (*tables, MAIN):
            found = self.lookup_table(table, address)
            if found is not None and found.kind != "throw":
                return None if found.kind != "unicast" else found
        return None

    def holder(self, address: str) -> str:
        """Return the device that holds an address of this host, "" for none."""
        for device, cidr in self.addresses:
            if cidr.partition("/")[0] == address:
                return device
        return ""

    # Sysctls and nft

    def write_sysctl(self, key: str, value: str) -> None:
        """Write a sysctl; what `all` does to devices is that of ip-sysctl.rst."""
        if key == "net.ipv4.ip_forward":
            key = "net.ipv4.conf.all.forwarding"
        if key not in self.sysctls:
            raise Refused(f"sysctl {key}: No such file or directory")
        if self.sysctls[key] == value:
            return
        self.sysctls[key] = value
        if key.endswith(".all.forwarding"):
            family = key.split(".")[1]
            for other in self.sysctls:
                if other.startswith(f"net.{family}.conf.") and other.endswith(".forwarding"):
                    self.sysctls[other] = value

    def read_sysctl(self, key: str) -> str | None:
        """Return a sysctl's value, None where the kernel has none of that name."""
        if key == "net.ipv4.ip_forward":
            key = "net.ipv4.conf.all.forwarding"
        return self.sysctls.get(key)

    def nft(self, lines: list[str]) -> None:
        """Run an `nft -f` script of the form that diff.table_lines writes, as one transaction."""
        tables, sets = dict(self.tables), dict(self.sets)
        current, chain, name = "", "", ""
        chains: list[tuple[str, str, list[tuple[str, str]]]] = []
        for raw in lines:
            line = raw.strip()
            words = line.split()
            if words[:2] == ["add", "table"]:
                tables.setdefault(" ".join(words[2:]), ())
            elif words[:2] == ["delete", "table"]:
                if tables.pop(" ".join(words[2:]), None) is None:
                    raise Refused("Error: No such file or directory")
                sets = {key: those for key, those in sets.items() if key[0] != " ".join(words[2:])}
            elif words[1:2] == ["element"]:
                self._element(sets, words[0], (" ".join(words[2:4]), words[4]), words[6])
            elif words[0] == "table" and words[-1] == "{":
                current, chains = " ".join(words[1:-1]), []
            elif words[0] == "chain" and words[-1] == "{":
                chain = words[1]
                chains.append((chain, "", []))
            elif words[0] == "set" and words[-1] == "{":
                name = words[1]
                sets[current, name] = frozenset()
            elif name and words[0] == "type":
                pass
            elif name and words[:3] == ["elements", "=", "{"]:
                sets[current, name] = frozenset(one.rstrip(",") for one in words[3:-1])
            elif line == "}" and (chain or name):
                chain, name = "", ""
            elif line == "}":
                tables[current] = tuple((name, hook, tuple(rules)) for name, hook, rules in chains)
            elif chain and line.startswith("type ") and line.endswith("; policy accept;"):
                hook = line.removesuffix("; policy accept;")
                if 'device "' in hook:
                    self._device(hook.split('"')[1])
                chains[-1] = (chain, hook, chains[-1][2])
            elif chain and ' comment "' in line:
                text, _, comment = line.rpartition(' comment "')
                chains[-1][2].append((text, comment.rstrip('"')))
            else:
                raise UnknownLine(f"nft {raw}")
        self.tables, self.sets = tables, sets

    @staticmethod
    def _element(
        sets: dict[tuple[str, str], frozenset[str]], verb: str, key: tuple[str, str], one: str
    ) -> None:
        if key not in sets or (verb == "delete" and one not in sets[key]):
            raise Refused("Error: Could not process rule: No such file or directory")
        sets[key] = sets[key] | {one} if verb == "add" else sets[key] - {one}
