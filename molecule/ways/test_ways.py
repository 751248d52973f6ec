"""Every way in that docs/ways-in.md names, packed into one bootstrap, one switch and one repair."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from lab import Lab
from tests.scenario.cluster import PROJECT, Cluster, record_file, take
from tests.traffic import Traffic
from tests.traffic.watch import code_archive

HOSTS = {"Web-1.Example.ORG", "db.primary", "db.Replica_2"}

#: What an administrator who has no lab would have done by hand: host -> (script, what it reads).
USERS = """
useradd --create-home --shell /bin/bash ops
install -d -o ops -g ops -m 0700 /home/ops/.ssh
install -o ops -g ops -m 0600 /root/.ssh/authorized_keys /home/ops/.ssh/authorized_keys
chpasswd
"""
PREPARED = {
    "n1": (
        f"{USERS}"
        # Each time, and so without a file that tells when it last asked.
        "printf '%s\\n' 'ops ALL=(root) ALL' 'Defaults timestamp_timeout=0' >/etc/sudoers.d/ops\n"
        # From nowhere but the jump host.
        "echo 'AllowUsers root ops@192.0.2.12' >/etc/ssh/sshd_config.d/jump.conf\n"
        "systemctl restart ssh\n",
        "ops:sudo-secret\n",
    ),
    "n2": (
        f"{USERS}"
        # Without a pseudo-terminal there is one process less between sudo and its command.
        "printf '%s\\n' 'ops ALL=(root) NOPASSWD: ALL' 'Defaults !use_pty' >/etc/sudoers.d/ops\n"
        "printf '%s\\n' 'Port 22' 'Port 2222' >/etc/ssh/sshd_config.d/port.conf\n"
        "systemctl restart ssh\n",
        "",
    ),
    "n3": (USERS, "root:root-secret\n"),
}

#: What the user's own directory holds; nothing of it knows of podnet but where it lies.
CONFIG = f"""\
[defaults]
strategy = ansible.builtin.free
roles_path = {PROJECT}/roles
library = {PROJECT}/library
module_utils = {PROJECT}/module_utils
action_plugins = {PROJECT}/action_plugins
filter_plugins = {PROJECT}/filter_plugins
fact_caching = ansible.builtin.jsonfile
fact_caching_connection = facts
callback_result_format = yaml

[ssh_connection]
pipelining = true
"""
IMPORTED = [
    {"name": "Fill the fact cache", "hosts": "podnet_nodes", "gather_facts": True},
    {"import_playbook": str(PROJECT / "playbooks/site.yml")},
]
ROLES = [
    {
        "name": "Our own play",
        "hosts": "podnet_nodes",
        "gather_facts": False,
        "become": True,
        "strategy": "ansible.builtin.linear",
        "roles": [{"role": "podnet_plan", "run_once": True}, {"role": "podnet_network"}],
    }
]

#: Tells, on a host, from where the code of the timed rollback believes that it is called.
CLIENTS = """
import base64, json, sys, tempfile
with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
    archive.write(base64.b64decode("ARCHIVE"))
    archive.flush()
    sys.path.insert(0, archive.name)
    from podnet.host import ssh_clients
print(json.dumps(ssh_clients.clients()))
"""


@pytest.fixture(scope="module", autouse=True)
def users(cluster: Cluster) -> None:
    """Give the hosts their users; what reset must restore is what is there then."""
    lab = cluster.lab
    for host, (script, passwords) in PREPARED.items():
        lab.run(host, ["sh", "-ec", script], stdin=passwords)
    config = (lab.directory / "ssh_config").read_text()
    keys = (lab.directory / "known_hosts").read_text().splitlines()
    jump = next(line.split(" ", 1)[1] for line in keys if line.startswith("n2,"))
    (lab.directory / "ways_hosts").write_text(f"[2001:db8:1::12]:2222 {jump}\n")
    (lab.directory / "ways_config").write_text(
        "Host replica.example.org\n  HostName 192.0.2.13\n"
        + config.replace("known_hosts\n", f"known_hosts {lab.directory}/ways_hosts\n", 1)
    )
    record_file(lab).write_text(json.dumps(take(lab)))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's own working directory."""
    made = tmp_path_factory.mktemp("own")
    (made / "ansible.cfg").write_text(CONFIG)
    (made / "site.yml").write_text(yaml.safe_dump(IMPORTED, sort_keys=False))
    (made / "roles.yml").write_text(yaml.safe_dump(ROLES, sort_keys=False))
    return made


def test_a_first_run_through_all_ways(cluster: Cluster, directory: Path) -> None:
    arguments = ("--forks", "1", "-e", "podnet_backend=vxlan")
    run = cluster.play(directory / "site.yml", *arguments, directory=directory)
    assert run.changed_hosts == HOSTS, run.output
    facts = "".join(file.name for file in (directory / "facts").iterdir())
    assert all(host in facts for host in run.changed_hosts)
    assert {route["dev"] for route in cluster.routes("n1").values()} == {"flannel.1"}


def test_a_switch_one_host_at_a_time_and_with_another_strategy_loses_nothing(
    cluster: Cluster, directory: Path
) -> None:
    with Traffic(cluster.lab) as traffic:
        run = cluster.play("site.yml", "--forks", "1", directory=directory)
        report = traffic.stop()
    assert run.changed_hosts == HOSTS, run.output
    assert not report.failures, report.table()
    assert {route["dev"] for route in cluster.routes("n1").values()} == {"host0"}


def test_a_repair_by_roles_in_a_play_of_the_users_own_on_a_pattern(
    cluster: Cluster, directory: Path
) -> None:
    for host in ("n1", "n2"):
        cluster.on(host, "ip", "route", "delete", "10.244.2.0/24")
    limit = "databases:!~.*Replica.*:&podnet_nodes"
    run = cluster.play(directory / "roles.yml", "--limit", limit, directory=directory)
    assert run.changed_hosts == {"db.primary"}, run.output
    assert "without its change: Web-1.Example.ORG, db.Replica_2." in run.message
    # From where anybody can write Ansible takes no ansible.cfg; without pipelining, then.
    directory.chmod(0o777)
    run = cluster.play("site.yml", "--limit", "Web-1*", directory=directory)
    assert "world writable directory" in run.output
    assert run.changed_hosts == {"Web-1.Example.ORG"}, run.output


def test_every_pair(cluster: Cluster) -> None:
    run = cluster.verify()
    assert "Web-1.Example.ORG" in run.output


def ssh(lab: Lab, *argv: str) -> list[str]:
    return ["ssh", "-F", str(lab.directory / "ways_config"), *argv]


JUMP = ("-o", "ProxyUseFdpass=no", "-o", "ProxyJump=ops@[2001:db8:1::12]:2222")
SUDO = "sudo -S -p '' python3 -"

#: How a user gets root -> ssh's words, the command, the password; whom the rollback then watches,
#: and whether that is known.
ROOT: dict[str, tuple[Sequence[str], str, str, str, bool]] = {
    "sudo with a password, over a jump host": (
        (*JUMP, "ops@192.0.2.11"), SUDO, "sudo-secret\n", "192.0.2.12", True),
    "sudo without a password": (
        ("-p", "2222", "ops@2001:db8:1::12"), "sudo -n python3 -", "", "2001:db8:1::1", True),
    "su": (("ops@replica.example.org",), "su root -c 'python3 -'", "root-secret\n", "192.0.2.1",
           True),
    # As run0 and `machinectl shell`: systemd starts the process.
    "systemd": (
        ("-p", "2222", "ops@2001:db8:1::12"),
        "sudo -n systemd-run --quiet --collect --pipe --wait python3 -", "", "2001:db8:1::1",
        False),
}  # fmt: skip


@pytest.mark.parametrize("way", ROOT)
def test_the_timed_rollback_knows_the_client(cluster: Cluster, way: str) -> None:
    words, command, password, client, certain = ROOT[way]
    archive = base64.b64encode(code_archive()).decode()
    done = subprocess.run(
        ssh(cluster.lab, *words, command),
        input=password + CLIENTS.replace("ARCHIVE", archive),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    addresses, known = json.loads(done.stdout.splitlines()[-1])
    assert known is certain
    assert client in addresses
    assert not certain or addresses == [client]
