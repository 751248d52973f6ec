"""Who reaches a hostPort and a Service, from everywhere, as tables; what br_netfilter does for it.

The hosts begin as with a kernel that has not loaded br_netfilter: bridged packets do not pass
iptables. n1 has a kubelet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.scenario.cluster import Cluster, Run
from tests.scenario.services import (
    CLIENT,
    HOST_PORT,
    NODE_PORT,
    OUTSIDE_NAME,
    POD_PORT,
    SERVICE_PORT,
    WEB,
    Place,
    Services,
    Target,
)

KEYS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
KUBELET = "/etc/systemd/system/kubelet.service"
#: How often a Service is asked, so that all its endpoints answer: by chance once in 2^19 not.
TIMES = 20

#: How test_all_are_reached_from_everywhere leaves the hosts.
HOST_GW = ("-e", "podnet_backend=host-gw", "-e", "podnet_bridge_netfilter=true")

Rows = dict[str, dict[str, str]]
Show = Callable[[str, Rows], None]


@pytest.fixture(scope="module")
def bare(cluster: Cluster) -> Cluster:
    """The hosts before podnet; the kubelet stays for the tests that all scenarios share."""
    for host in cluster.hosts:
        bridged(cluster, host, "0")
    cluster.on("n1", "tee", KUBELET, stdin="[Service]\nExecStart=/bin/true\n")
    for host in cluster.hosts:
        cluster.remember(host)
    return cluster


@pytest.fixture(scope="module")
def first_run(bare: Cluster) -> Run:
    return bare.site("-e", "podnet_bridge_netfilter=false")


@pytest.fixture(scope="module")
def services(cluster: Cluster, first_run: Run) -> Iterator[Services]:
    """Pods and Services: one for each host's pod, one for all of these, one that is no pod's."""
    made = Services(cluster.lab)
    pods = {host: f"{WEB}-{host}" for host in cluster.hosts}
    own = {host.upper(): [pod] for host, pod in pods.items()}
    try:
        made.be_kube_proxy({**own, "ALL": list(pods.values()), "OUT": [OUTSIDE_NAME]})
        yield made
    finally:
        made.close()
        cluster.site()


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Print a table, in whatever way pytest runs."""

    def shown(title: str, rows: Rows) -> None:
        columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
        widths = [max(len(one), 5) for one in columns]
        left = max(map(len, (title, *rows)))
        lines = [f"\n{title:<{left}}  " + "  ".join(columns)]
        for row, cells in rows.items():
            texts = [
                f"{cells.get(one, '-'):<{width}}"
                for one, width in zip(columns, widths, strict=True)
            ]
            lines.append(f"{row:<{left}}  " + "  ".join(texts))
        with capsys.disabled():
            print("\n".join(line.rstrip() for line in lines))

    return shown


def bridged(cluster: Cluster, host: str, value: str) -> None:
    cluster.on(host, "sysctl", "-qw", *(f"{key}={value}" for key in KEYS))


def values(cluster: Cluster) -> dict[str, str]:
    return {
        host: " ".join(cluster.on(host, "sysctl", "-n", *KEYS).split()) for host in cluster.hosts
    }


def places(cluster: Cluster, host: str) -> dict[str, Place]:
    """Return from where what is on `host` is asked for."""
    other = next(one for one in cluster.hosts if one != host)
    return {
        "outside": Place(OUTSIDE_NAME),
        "another node": Place(other),
        "a pod on another node": Place(other, f"{CLIENT}-{other}"),
        "a pod on the same node": Place(host, f"{CLIENT}-{host}"),
        "the pod itself": Place(host, f"{WEB}-{host}"),
        "the node itself": Place(host),
    }


def cells(
    services: Services, place: Place, targets: Mapping[str, tuple[Target, set[str]]], times: int = 1
) -> dict[str, str]:
    """Return for each target "ok", "hangs", "half" if only some of those that should answer do."""
    said = services.ask(place, [target for target, _who in targets.values()], times)
    result = {}
    for (column, (_target, who)), answers in zip(targets.items(), said, strict=True):
        names = {one.partition(" ")[0] for one in answers}
        result[column] = "ok" if names == who else _otherwise(names, who)
    return result


def _otherwise(names: set[str], who: set[str]) -> str:
    if "" not in names or not names - {""} < who:
        return f"{sorted(names)} instead of {sorted(who)}"
    return "half" if names - {""} else "hangs"


def host_ports(cluster: Cluster, services: Services) -> Rows:
    rows = {}
    for host, about in cluster.lab.hosts.items():
        who = {f"{WEB}-{host}"}
        for name, place in places(cluster, host).items():
            targets = {
                "IPv4": ((about.address, HOST_PORT), who),
                "IPv6": ((about.address6, HOST_PORT), who),
            }
            if place == Place(host):
                targets["127.0.0.1"] = (("127.0.0.1", HOST_PORT), who)
            rows[f"{host}: from {name}"] = cells(services, place, targets)
    return rows


def cluster_ips(cluster: Cluster, services: Services) -> Rows:
    """Return what pods and nodes get from each Service; names of columns are the endpoints."""
    targets = {}
    for name, endpoints in services.endpoints.items():
        shown = {"ALL": "all", "OUT": "outside"}.get(name, f"pod on {name.lower()}")
        for family, address in zip((4, 6), services.addresses_of(name), strict=True):
            targets[f"{shown} v{family}"] = ((address, SERVICE_PORT), set(endpoints))
    rows = {}
    for host in cluster.hosts:
        for name, place in (
            ("a pod", Place(host, f"{CLIENT}-{host}")),
            ("an endpoint", Place(host, f"{WEB}-{host}")),
            ("the node", Place(host)),
        ):
            rows[f"from {name} on {host}"] = cells(services, place, targets, TIMES)
    return rows


def node_ports(cluster: Cluster, services: Services) -> Rows:
    rows: Rows = {}
    for host, about in cluster.lab.hosts.items():
        targets = {}
        for number, (name, endpoints) in enumerate(services.endpoints.items()):
            for family, address in ((4, about.address), (6, about.address6)):
                targets[f"{name.lower()} v{family}"] = (
                    (address, NODE_PORT + number),
                    set(endpoints),
                )
        for name in ("outside", "another node", "a pod on another node", "a pod on the same node"):
            place = places(cluster, host)[name]
            rows[f"via {host}: from {name}"] = cells(services, place, targets, TIMES)
    return rows


def not_ok(rows: Rows) -> dict[str, str]:
    return {
        f"{row}: {column}": said
        for row, columns in rows.items()
        for column, said in columns.items()
        if said != "ok"
    }


def hanging(cluster: Cluster, *hosts: str) -> dict[str, str]:
    """Return the cells of `cluster_ips` where a pod calls one of its own host."""
    return {
        f"from a pod on {host}: {to} v{family}": said
        for host in hosts or cluster.hosts
        for to, said in ((f"pod on {host}", "hangs"), ("all", "half"))
        for family in (4, 6)
    }


def test_without_br_netfilter_a_pod_hangs_whose_service_is_on_its_own_host(
    cluster: Cluster, services: Services, first_run: Run, show: Show
) -> None:
    assert values(cluster) == {"n1": "0 0", "n2": "0 0"}
    assert f"n1: {KUBELET} is here" in first_run.message, first_run.message
    assert "n2: /" not in first_run.message
    rows = cluster_ips(cluster, services)
    show("ClusterIP, false", rows)
    # All other cells are ok, so what hangs does so for no other reason.
    assert not_ok(rows) == hanging(cluster)
    # A hostPort does not need it: portmap has the caller masqueraded.
    rows = host_ports(cluster, services)
    show("hostPort, false", rows)
    assert not_ok(rows) == {}


def test_auto_looks_for_a_kubelet(cluster: Cluster, services: Services, show: Show) -> None:
    predicted = cluster.check()
    assert predicted.changed_hosts == {"n1"}
    for key in KEYS:
        assert f"sysctl {key} = 1" in predicted.message, predicted.message
    assert cluster.site().changed_hosts == {"n1"}
    assert values(cluster) == {"n1": "1 1", "n2": "0 0"}
    rows = cluster_ips(cluster, services)
    show("ClusterIP, a kubelet on n1", rows)
    assert not_ok(rows) == hanging(cluster, "n2")
    cluster.demand_clean()
    # Somebody turns it off: the next run turns it on again.
    bridged(cluster, "n1", "0")
    assert cluster.site().changed_hosts == {"n1"}
    assert values(cluster) == {"n1": "1 1", "n2": "0 0"}


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_all_are_reached_from_everywhere(
    cluster: Cluster, services: Services, show: Show, backend: str
) -> None:
    cluster.site("-e", f"podnet_backend={backend}", "-e", "podnet_bridge_netfilter=true")
    assert values(cluster) == {"n1": "1 1", "n2": "1 1"}
    for title, rows in (
        ("hostPort", host_ports(cluster, services)),
        ("ClusterIP", cluster_ips(cluster, services)),
        ("NodePort", node_ports(cluster, services)),
    ):
        show(f"{title}, {backend}", rows)
        assert not_ok(rows) == {}


def test_who_calls_is_seen_as_kubernetes_promises(cluster: Cluster, services: Services) -> None:
    """A pod is seen with its own address by pods, with the node's outside, and NATed once at most.

    The kernel asks nat chains until one has an answer (nf_nat_inet_fn), so what kube-proxy has
    marked 0x4000 and podnet would masquerade, too, is masqueraded by one of them.
    """
    for host, about in cluster.lab.hosts.items():
        client, web = f"{CLIENT}-{host}", f"{WEB}-{host}"
        for at, family in enumerate((4, 6)):
            gateway = services.gateway(host, family)
            address = services.pod(client, family)
            targets = [
                (services.addresses_of(name)[at], SERVICE_PORT)
                for name in (*(one.upper() for one in cluster.hosts), "OUT")
            ]
            node = about.address if family == 4 else about.address6
            wanted = [[f"{WEB}-{one} {address}"] for one in cluster.hosts]
            said = services.ask(Place(host, client), targets)
            assert said == [*wanted, [f"{OUTSIDE_NAME} {node}"]]
            # A pod that calls itself is masqueraded: nobody takes a packet from himself.
            own = services.addresses_of(host.upper())[at]
            assert services.ask(Place(host, web), [(own, SERVICE_PORT)]) == [[f"{web} {gateway}"]]


def test_a_chain_that_drops_sees_packets_between_pods_of_one_host(
    cluster: Cluster, services: Services
) -> None:
    """podnet's accepts cover them: it finds the chain, as one that drops packets between hosts."""
    web = [(services.pod(f"{WEB}-n1", family), POD_PORT) for family in (4, 6)]
    try:
        for tool in ("iptables", "ip6tables"):
            cluster.on("n1", tool, "-P", "FORWARD", "DROP")
        assert services.ask(Place("n1", f"{CLIENT}-n1"), web) == [[""], [""]]
        cluster.site(*HOST_GW)
        seen = [services.pod(f"{CLIENT}-n1", family) for family in (4, 6)]
        said = services.ask(Place("n1", f"{CLIENT}-n1"), web)
        assert said == [[f"{WEB}-n1 {address}"] for address in seen]
        rows = cluster_ips(cluster, services)
        assert not_ok(rows) == {}
    finally:
        for tool in ("iptables", "ip6tables"):
            cluster.on("n1", tool, "-P", "FORWARD", "ACCEPT")


def test_what_a_flush_takes_is_whose_it_was(cluster: Cluster, services: Services) -> None:
    flush = "iptables -t nat -F; ip6tables -t nat -F; nft delete table inet podnet"
    cluster.on("n1", "sh", "-ec", flush)
    assert cluster.site(*HOST_GW).changed_hosts == {"n1"}
    rows = host_ports(cluster, services)
    # podnet's own is back, and nothing else hangs: the host's ports are the runtime's.
    assert {cell for cell in not_ok(rows) if cell.startswith("n2")} == set()
    assert {cell for cell in not_ok(rows) if cell.startswith("n1")} == {
        f"{row}: {column}"
        for row, columns in rows.items()
        for column in columns
        if row.startswith("n1")
    }
    outside = services.ask(Place("n1", f"{CLIENT}-n1"), services.outside())
    assert [bool(one[0]) for one in outside] == [True, True]
    services.restart("n1")
    assert not_ok(host_ports(cluster, services)) == {}
