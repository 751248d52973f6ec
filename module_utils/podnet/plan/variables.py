"""The one table of the `podnet_` variables that an inventory may set.

Everything else follows it: the plan reads values and defaults here, an unknown `podnet_` name is
refused with the closest known one, docs/variables.md is made from it (tools/variables.py), and a
test holds the roles' defaults to it. A new variable is one line in `VARIABLES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.planners import PLANNERS
from . import checks as c
from . import routes

#: The name of the allocations file, which lies beside the inventory unless the user names another.
ALLOCATIONS_FILE = "podnet_allocations.yml"


@dataclass(frozen=True)
class Variable:
    """A variable: its default (as docs and role defaults show it), its check, its meaning.

    `per_host` ones may differ between hosts, all others must be equal on every host. `kind` is
    the word for argument_specs: str, int, bool, list, raw. No message shows a `secret` one.
    """

    name: str
    default: Any
    kind: str
    check: c.Check
    meaning: str
    per_host: bool = False
    secret: bool = False

    def show(self, value: object) -> str:
        """Return a value for an error message; a secret one is not shown."""
        return "(a secret value)" if self.secret else c.show(value)


# fmt: off
VARIABLES: tuple[Variable, ...] = (
    # The network: equal on every host.
    Variable("podnet_name", "podnet", "str",
             c.network_name,
             "names this network on its hosts, and its nft table, so no word of nft's language (ip,"
             " gateway); networks with other names, CIDRs, VNIs and bridges live beside it"),
    Variable("podnet_cluster_cidr", "10.244.0.0/16", "str", c.optional(c.cidr(4)),
             "IPv4 range of all pods; empty for an IPv6-only pod network"),
    Variable("podnet_cluster_cidr6", "", "str", c.optional(c.cidr(6)),
             "IPv6 range of all pods; set it for dual stack"),
    Variable("podnet_node_prefix", 24, "int", c.integer(1, 30),
             "prefix length of a node's IPv4 subnet; changing it renumbers every node"),
    Variable("podnet_node_prefix6", 64, "int", c.integer(1, 126),
             "prefix length of a node's IPv6 subnet; changing it renumbers every node"),
    Variable("podnet_allocations_file", "{{ inventory_dir }}/" + ALLOCATIONS_FILE, "str",
             c.absolute_path,
             "the lasting record of who has which subnet; commit it"),
    Variable("podnet_allocations_write", True, "bool", c.boolean,
             "whether a run writes that file; false where nobody keeps what a run writes, as in a"
             " container: then a plan that needs more than the file has is refused"),
    Variable("podnet_backend", "vxlan", "str", c.word(*PLANNERS),
             "how a packet gets to another node: vxlan, host-gw or wireguard"),
    Variable("podnet_vxlan_vni", 1, "int", c.integer(1, 2**24 - 1), "VXLAN network identifier"),
    Variable("podnet_vxlan_port", 8472, "int", c.integer(1, 65535), "UDP port of VXLAN"),
    Variable("podnet_vxlan_device", "flannel.{{ podnet_vxlan_vni }}", "str",
             c.optional(c.interface),
             "name of the VXLAN device; flannel's own by default"),
    Variable("podnet_vxlan_tx_checksum", "keep", "raw", c.switch("keep"),
             "off where a NIC, driver or hypervisor spoils checksums of TCP and UDP inside VXLAN:"
             " processors fill them in (tx-checksum-ip-generic of the VXLAN device); on; or keep,"
             " as it is", per_host=True),
    Variable("podnet_wireguard_port", 51820, "int", c.integer(1, 65535), "UDP port of WireGuard"),
    Variable("podnet_wireguard_device", "flannel-wg", "str", c.interface,
             "name of the WireGuard device"),
    Variable("podnet_wireguard_psk", "", "str", c.shared_key,
             "pre-shared key of all hosts beside their own keys, 32 bytes in base64; keep it in a"
             " vault", secret=True),
    Variable("podnet_direct_routing", False, "bool", c.boolean,
             "with vxlan: plain routes to peers that are on-link, VXLAN to the others"),
    Variable("podnet_bridge", "cni0", "str", c.interface, "name of the pods' bridge"),
    Variable("podnet_mtu", "auto", "str", c.mtu,
             "auto, portable (always less the VXLAN overhead), or a number of bytes"),
    Variable("podnet_masquerade", True, "bool", c.boolean,
             "pods reach the outside with the node's address"),
    Variable("podnet_masquerade_exclude", [], "list", c.cidrs,
             "CIDRs outside that pods reach with their own address"),
    Variable("podnet_guard", True, "bool", c.boolean,
             "with vxlan: only the plan's nodes may send into the overlay"),
    Variable("podnet_cni_conf_dir", "/etc/cni/net.d", "str", c.directory,
             "where the CNI configuration is written"),
    Variable("podnet_cni_conf_name", "10-podnet.conflist", "str",
             c.conflist_name,
             "file name of the CNI configuration; the first in the directory wins"),
    Variable("podnet_cni_bin_dir", "/opt/cni/bin", "str", c.directory,
             "where the CNI plugins are"),
    Variable("podnet_cni_extra_plugins", ["portmap"], "list", c.plugins,
             "plugins chained after bridge + host-local: names, or objects with a type"),
    Variable("podnet_cni_exclusive", False, "bool", c.boolean,
             "move the CNI configurations of others in that directory aside; reset puts them back"),
    Variable("podnet_rollback_timeout", 60, "int", c.integer(5, 3600),
             "seconds until a change that nobody confirmed is undone"),
    # One run: given with -e.
    Variable("podnet_force_limited", False, "bool", c.boolean,
             "allow a switch under --limit"),
    Variable("podnet_force_allocations", False, "bool", c.boolean,
             "apply the allocations file although hosts have seen a newer one or another's"),
    Variable("podnet_force_unproven", False, "bool", c.boolean,
             "allow a switch where the new way is not proven between all hosts"),
    Variable("podnet_wireguard_rotate", False, "bool", c.boolean,
             "give every host a new WireGuard key pair"),
    Variable("podnet_node", "", "str", c.optional(c.line),
             "the node that remove_node.yml takes out"),
    Variable("podnet_release", [], "list", c.host_names,
             "hosts that left the inventory and whose subnets may be given to others"),
    Variable("podnet_kubernetes_nodes", "", "str", c.optional(c.line),
             "import_kubernetes.yml: file with what kubectl get nodes --output json printed"),
    Variable("podnet_kubernetes_patch", "", "str", c.optional(c.line),
             "export_kubernetes.yml: file to write the commands to, on the controller"),
    Variable("podnet_from", "", "str", c.optional(c.line),
             "trace.yml: where the packet begins: HOST, HOST/NAMESPACE or a pod's address"),
    Variable("podnet_to", "", "str", c.optional(c.line),
             "trace.yml: where it is to go, as podnet_from, or any other address"),
    Variable("podnet_plan_routes", "", "str", c.optional(c.word(*routes.FORMS)),
             "print the routes to pods that a router outside needs: ip, frr or bird"),
    # A host's own.
    Variable("podnet_node_ip", "", "str", c.optional(c.address(4)),
             "IPv4 address on the underlay, with or without a prefix length; by default"
             " ansible_host where that is one", per_host=True),
    Variable("podnet_node_ip6", "", "str", c.optional(c.address(6)),
             "IPv6 address on the underlay, with or without a prefix length; by default"
             " ansible_host where that is one", per_host=True),
    Variable("podnet_interface", "", "str", c.optional(c.interface),
             "interface of the underlay; by default the one that holds the node's address",
             per_host=True),
    Variable("podnet_subnet", "", "str", c.optional(c.cidr(4)), "pin the node's IPv4 subnet",
             per_host=True),
    Variable("podnet_subnet6", "", "str", c.optional(c.cidr(6)), "pin the node's IPv6 subnet",
             per_host=True),
    Variable("podnet_endpoints", [], "list", c.endpoints,
             "static network namespaces to attach: name, optional address and address6",
             per_host=True),
    Variable("podnet_reserved", [], "list", c.reserved,
             "addresses, ranges or CIDRs of the nodes' subnets that no pod is given",
             per_host=True),
    Variable("podnet_podman", False, "bool", c.boolean,
             "let Podman's containers use the network: podman run --network NAME",
             per_host=True),
    Variable("podnet_podman_range", [], "list", c.reserved,
             "ranges of the nodes' subnets, one in each, that no pod is given and that Podman 5"
             " gives out", per_host=True),
    Variable("podnet_node_mac", "", "str",
             c.mac,
             "MAC of the VTEP, for a node that another tool still runs", per_host=True),
    Variable("podnet_cni_install", "none", "str", c.word("none", "package", "archive"),
             "how the CNI plugins get to the host", per_host=True),
    Variable("podnet_cni_package", "", "str",
             c.package,
             "the distribution's package that holds the CNI plugins", per_host=True),
    Variable("podnet_cni_url", "", "str",
             c.url,
             "archive of the CNI plugins", per_host=True),
    Variable("podnet_cni_checksum", "", "str",
             c.checksum,
             "checksum of that archive", per_host=True),
    Variable("podnet_wireguard_endpoint", "", "str", c.node_endpoint,
             "where peers send to: an address or name, with or without a port; none for a host"
             " behind NAT; by default the node's address", per_host=True),
    Variable("podnet_wireguard_keepalive", 0, "int", c.integer(0, 65535),
             "seconds after which the host sends to a peer even without traffic; 0: never, but 25"
             " behind NAT", per_host=True),
    Variable("podnet_wireguard_userspace", False, "bool", c.boolean,
             "use wireguard-go where the kernel has no WireGuard", per_host=True),
    Variable("podnet_repair_interval", "", "str",
             c.interval,
             "how often a timer on the host repairs drift; empty: never", per_host=True),
    Variable("podnet_health_interval", "", "str",
             c.interval,
             "how often a timer on the host writes its health for Prometheus; empty: never",
             per_host=True),
    Variable("podnet_health_dir", "/var/lib/prometheus/node-exporter", "path",
             c.absolute_path,
             "directory on the host that node_exporter's textfile collector reads",
             per_host=True),
    Variable("podnet_adopt", False, "bool", c.boolean,
             "take over a host on which flannel ran or runs", per_host=True),
    Variable("podnet_manage_forward", True, "bool", c.boolean,
             "accept the pods' packets in chains of others that drop what is forwarded",
             per_host=True),
    Variable("podnet_manage_networkd", True, "bool", c.boolean,
             "write the drop-ins that keep systemd-networkd and NetworkManager off podnet's devices"
             " and routes", per_host=True),
    Variable("podnet_manage_leases", True, "bool", c.boolean,
             "free the addresses of pods that ended with the host when it boots", per_host=True),
    Variable("podnet_manage_neighbours", False, "bool", c.boolean,
             "raise the kernel's limits of its neighbour tables where peers and pods need more",
             per_host=True),
    Variable("podnet_probe_pairs", "all", "raw", c.pairs,
             "whom each host asks in verify.yml: all; ring, the host before it and the one after"
             " it; or a number of others, chosen by chance"),
    Variable("podnet_report_dir", "", "str", c.optional(c.absolute_path),
             "directory on the controller to which verify.yml and doctor.yml write their results as"
             " JSON, JUnit and for Prometheus, and report.yml its page; without it report.yml"
             " writes where it is started"),
    Variable("podnet_bridge_netfilter", "auto", "str", c.auto_or_boolean,
             "whether packets between pods of one host pass iptables, as kube-proxy needs"
             " (br_netfilter): true, false, or auto: where kubelet, k3s, k0s, rke2 or kube-proxy"
             " is",
             per_host=True),
    Variable("podnet_probe_outside", "", "str", c.optional(c.address(4)),
             "IPv4 address outside that verify.yml reaches from a pod", per_host=True),
    Variable("podnet_probe_outside6", "", "str", c.optional(c.address(6)),
             "IPv6 address outside that verify.yml reaches from a pod", per_host=True),
)
# fmt: on

BY_NAME: dict[str, Variable] = {variable.name: variable for variable in VARIABLES}
