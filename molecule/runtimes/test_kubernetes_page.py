"""docs/kubernetes.md: its commands on a host, word by word, and docs/examples/kubeadm.yml."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.scenario.cluster import PROJECT, Cluster

PAGE = (PROJECT / "docs" / "kubernetes.md").read_text()
EXAMPLE = PROJECT / "docs" / "examples" / "kubeadm.yml"
CONFIG = "/etc/containerd/config.toml"
KUBEADM = "/etc/kubernetes/podnet-kubeadm.yml"

#: What stands below `n1#` in the page's first part, as (command, output).
SHOWN = re.findall(
    r"^    n1# (.+)\n((?:    (?!n1# ).+\n)*)", PAGE.partition("## Pod CIDRs")[0], re.MULTILINE
)


def test_commands_print_what_the_page_shows(cluster: Cluster) -> None:
    assert len(SHOWN) == 3
    for command, output in SHOWN:
        assert cluster.on("n1", "sh", "-c", command) == re.sub("^    ", "", output, flags=re.M)


@pytest.fixture
def configured(cluster: Cluster) -> Iterator[Cluster]:
    """Hosts on which a play may configure containerd and kubeadm."""
    before = {host: cluster.on(host, "cat", CONFIG) for host in cluster.hosts}
    yield cluster
    for host in cluster.hosts:
        cluster.on(host, "systemctl", "stop", "containerd")
        cluster.on(host, "tee", CONFIG, stdin=before[host])
        cluster.on(host, "rm", "-rf", "/etc/kubernetes")


def test_the_examples_first_play_configures_containerd_and_kubeadm(configured: Cluster) -> None:
    first = configured.play(EXAMPLE, "--skip-tags", "cluster")
    assert first.changed_hosts == set(configured.hosts)
    for host in configured.hosts:
        shown = configured.on(host, "containerd", "config", "dump")
        assert "SystemdCgroup = true" in shown
        assert 'bin_dir = "/usr/lib/cni"' in shown
        assert configured.on(host, "ctr", "plugins", "list", "id==cri").split()[-1] == "ok"
    documents = yaml.safe_load_all(configured.on("n1", "cat", KUBEADM))
    by_kind = {one["kind"]: one for one in documents}
    assert by_kind["InitConfiguration"]["localAPIEndpoint"] == {"advertiseAddress": "192.0.2.11"}
    assert by_kind["ClusterConfiguration"]["networking"] == {"podSubnet": "10.244.0.0/16"}
    assert by_kind["KubeProxyConfiguration"]["clusterCIDR"] == "10.244.0.0/16"
    again = configured.play(EXAMPLE, "--skip-tags", "cluster")
    assert again.changed_hosts == set()
