"""What a lab writes for Ansible and SSH, and what it removes again."""

from pathlib import Path

import pytest
import yaml

from lab import inventory
from lab.addresses import Layout
from lab.errors import LabError

RUN = Path("/run/podnet-lab/lab")
HOSTS = [Layout(segments=2).host(name) for name in ("n1", "n2")]


def test_hosts_file() -> None:
    content = yaml.safe_load(inventory.hosts_file(HOSTS, RUN, node_ip6=False))
    assert content["podnet_nodes"]["hosts"] == {
        "n1": {"ansible_host": "192.0.2.11", "podnet_node_ip": "192.0.2.11/24"},
        "n2": {"ansible_host": "198.51.100.12", "podnet_node_ip": "198.51.100.12/24"},
    }
    variables = content["all"]["vars"]
    assert variables["ansible_ssh_common_args"] == "-F /run/podnet-lab/lab/ssh_config"
    assert variables["ansible_control_path_dir"] == "/run/podnet-lab/lab/cp"


def test_hosts_file_with_node_ip6() -> None:
    content = yaml.safe_load(inventory.hosts_file(HOSTS, RUN, node_ip6=True))
    assert content["podnet_nodes"]["hosts"]["n2"]["podnet_node_ip6"] == "2001:db8:2::12/64"


def test_a_control_socket_of_the_longest_name_fits() -> None:
    # sun_path holds 107 bytes; Ansible names a socket by 10, ssh makes it with 17 more.
    longest = Path("/run/podnet-lab") / ("l" * 20) / "cp" / ("f" * 10)
    assert len(str(longest)) + 17 < 100


def test_ssh_config_checks_host_keys() -> None:
    text = inventory.ssh_config(HOSTS, RUN, "podnet-lab-lab")
    assert "StrictHostKeyChecking yes" in text
    assert "Host n1 192.0.2.11\n  HostName 192.0.2.11\n" in text
    assert "--net=/run/netns/podnet-lab-lab -- nc -F -w 10 %h %p" in text


def test_slow_hosts_have_more_time() -> None:
    before, after = inventory.ssh_config(HOSTS, RUN, "podnet-lab-lab", slow={"n1"}).split("Host n2")
    assert "ServerAliveInterval 20" in before
    # For a host that is not slow, the first value is that of all.
    assert "ServerAliveInterval 20" not in after


def test_known_hosts() -> None:
    keys = {HOSTS[0]: "ssh-ed25519 AAAA1", HOSTS[1]: "ssh-ed25519 AAAA2"}
    assert inventory.known_hosts(keys) == (
        "n1,192.0.2.11 ssh-ed25519 AAAA1\nn2,198.51.100.12 ssh-ed25519 AAAA2\n"
    )


def test_remove_leaves_no_directory(tmp_path: Path) -> None:
    directory = tmp_path / "inventory" / "lab"
    inventory.write(directory, inventory.hosts_file(HOSTS, RUN, node_ip6=False))
    (directory / "podnet_allocations.yml").write_text("")
    assert inventory.remove(directory) == []
    assert not directory.exists()
    assert inventory.remove(directory) == []


def test_remove_leaves_what_a_person_wrote(tmp_path: Path) -> None:
    inventory.write(tmp_path, inventory.hosts_file(HOSTS, RUN, node_ip6=False))
    (tmp_path / "group_vars").mkdir()
    assert inventory.remove(tmp_path) == ["group_vars"]
    assert not (tmp_path / "hosts.yml").exists()


def test_an_inventory_of_somebody_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all:\n")
    with pytest.raises(LabError, match="not written by the lab"):
        inventory.write(tmp_path, inventory.hosts_file(HOSTS, RUN, node_ip6=False))
    assert inventory.remove(tmp_path) == ["hosts.yml"]
    assert (tmp_path / "hosts.yml").read_text() == "all:\n"
