"""containerd on a lab's hosts, driven as a kubelet drives it: by CRI v1 over its socket.

The client runs here: a host's /run is in reach below /proc/PID/root of its init, so no host needs
more than its own containerd. No registry is in reach of a lab; `image` makes what pods are made of
from the hosts' busybox.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as cri

from lab import Lab

SOCKET = "/run/containerd/containerd.sock"
CONFIG = "/etc/containerd/config.toml"

#: The image of the pods' containers; the sandbox's own is what containerd's configuration names.
IMAGE = "podnet.test/busybox:1"

#: Seconds for one call on a busy machine.
_TIMEOUT = 120

#: A lab's host may have no cgroup controllers, while sandboxes ask for CPU shares, and no right to
#: lower a process's oom_score_adj (CAP_SYS_RESOURCE).
_LAB_CONFIG = "    disable_cgroup = true\n    restrict_oom_score_adj = true\n"

_STATE = "/var/lib/containerd"
_ROOT = "/srv/busybox"
_SERVICE = "/runtime.v1.RuntimeService/"


@dataclass(frozen=True)
class Pod:
    """A pod that runs: its sandbox's id, its container's, its address, its namespace's path."""

    host: str
    name: str
    sandbox: str
    container: str
    address: str
    netns: str


class Containerd:
    """The containerd of one host."""

    def __init__(self, lab: Lab, host: str) -> None:
        """Nothing happens yet."""
        self.host = host
        self._lab = lab
        self._config = ""
        self._channel: Any = None

    def start(self) -> None:
        """Start it with its distribution's configuration and a lab's, and import images.

        A host's disk is an overlay, which cannot be another one's upper layer; a tmpfs can.
        """
        self._on("mkdir", "-p", _STATE)
        self._on("mount", "-t", "tmpfs", "tmpfs", _STATE)
        self._config = self._on("cat", CONFIG)
        section = '[plugins."io.containerd.grpc.v1.cri"]\n'
        assert section in self._config, f"{self.host}: {CONFIG}: no {section}"
        self._on("tee", CONFIG, stdin=self._config.replace(section, section + _LAB_CONFIG))
        self._on("systemctl", "start", "containerd")
        shown = self._on("containerd", "config", "dump")
        (pause,) = (one.split('"')[1] for one in shown.splitlines() if "sandbox_image =" in one)
        archive = image(self._path(f"{_ROOT}/bin/busybox").read_bytes(), (pause, IMAGE))
        self._path("/run/podnet-test-image.tar").write_bytes(archive)
        self._on("ctr", "-n", "k8s.io", "images", "import", "/run/podnet-test-image.tar")
        self._on("rm", "/run/podnet-test-image.tar")
        self._channel = grpc.insecure_channel(f"unix:{self._path(SOCKET)}")

    def stop(self) -> None:
        """Remove all pods that are left, stop it, and put its configuration back."""
        if self._channel:
            self.remove(self.sandboxes())
            self._channel.close()
        self._on("systemctl", "stop", "containerd")
        self._on("umount", _STATE)
        if self._config:
            self._on("tee", CONFIG, stdin=self._config)

    # Pods

    def run(self, names: Iterable[str]) -> Starting:
        """Start pods, all at once; `Starting.pods` waits for them."""
        return Starting(self, list(names))

    def stopping(self, sandboxes: Iterable[str]) -> list[Any]:
        """Stop sandboxes, all at once; return the calls that are under way."""
        requests = [cri.StopPodSandboxRequest(pod_sandbox_id=one) for one in sandboxes]
        return [self.call("StopPodSandbox", one) for one in requests]

    def remove(self, sandboxes: Sequence[str]) -> None:
        """Stop sandboxes and remove them, all at once."""
        wait(self.stopping(sandboxes))
        requests = [cri.RemovePodSandboxRequest(pod_sandbox_id=one) for one in sandboxes]
        wait(self.call("RemovePodSandbox", one) for one in requests)

    def sandboxes(self) -> list[str]:
        """Return the ids of all sandboxes."""
        (answer,) = wait([self.call("ListPodSandbox", cri.ListPodSandboxRequest())])
        return [one.id for one in answer.items]

    def execute(self, pod: Pod, *argv: str) -> tuple[int, str]:
        """Run a command in a pod's container; return its status and all that it printed."""
        request = cri.ExecSyncRequest(container_id=pod.container, cmd=argv, timeout=20)
        (answer,) = wait([self.call("ExecSync", request)])
        return answer.exit_code, (answer.stdout + answer.stderr).decode()

    def call(self, method: str, request: Any) -> Any:
        """Begin a call; it returns a future."""
        stub = self._channel.unary_unary(
            f"{_SERVICE}{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(cri, f"{method}Response").FromString,
        )
        return stub.future(request, timeout=_TIMEOUT, wait_for_ready=True)

    def _path(self, path: str) -> Path:
        """Return where a path on the host is on this machine."""
        return Path(f"/proc/{self._lab.leader(self.host)}/root{path}")

    def _on(self, *argv: str, stdin: str = "") -> str:
        return self._lab.run(self.host, argv, stdin=stdin, check=True).stdout


class Starting:
    """Pods of one host that are being started."""

    def __init__(self, containerd: Containerd, names: Sequence[str]) -> None:
        """Begin: a sandbox for each name."""
        self._containerd = containerd
        self._names = names
        self._configs = [_sandbox(name) for name in names]
        self._calls = [
            containerd.call("RunPodSandbox", cri.RunPodSandboxRequest(config=one))
            for one in self._configs
        ]

    def pods(self) -> list[Pod]:
        """Wait for the sandboxes, start a container in each, and return the pods."""
        call = self._containerd.call
        ids = [one.pod_sandbox_id for one in wait(self._calls)]
        made = wait(
            call(
                "CreateContainer",
                cri.CreateContainerRequest(
                    pod_sandbox_id=sandbox, config=_CONTAINER, sandbox_config=config
                ),
            )
            for sandbox, config in zip(ids, self._configs, strict=True)
        )
        containers = [one.container_id for one in made]
        requests = [cri.StartContainerRequest(container_id=one) for one in containers]
        wait(call("StartContainer", one) for one in requests)
        states = wait(
            call("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=one, verbose=True))
            for one in ids
        )
        return [
            Pod(
                self._containerd.host,
                name,
                sandbox,
                container,
                state.status.network.ip,
                _netns(state),
            )
            for name, sandbox, container, state in zip(
                self._names, ids, containers, states, strict=True
            )
        ]


#: Answers over HTTP, and ends at once when it is killed.
_CONTAINER = cri.ContainerConfig(
    metadata=cri.ContainerMetadata(name="box"),
    image=cri.ImageSpec(image=IMAGE),
    command=["/bin/httpd", "-f", "-p", "80", "-h", "/etc"],
)


def wait(calls: Iterable[Any]) -> list[Any]:
    """Return the answers of calls; the first that failed raises, when all have ended."""
    under_way = list(calls)
    for one in under_way:
        one.exception()
    return [one.result() for one in under_way]


def image(busybox: bytes, names: Sequence[str]) -> bytes:
    """Return an image of a static busybox as an OCI archive, under several names.

    Its own command is what a sandbox's container does: nothing.
    """
    applets = ("sh", "printf", "nc", "httpd", "sleep")
    files: dict[str, bytes | str] = {f"bin/{one}": "busybox" for one in applets}
    layer = _tar(files | {"bin/busybox": busybox, "etc/hostname": b""})
    blobs: dict[str, bytes | str] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    layers = [blob(layer, "layer.v1.tar")]
    config = {
        "architecture": {"aarch64": "arm64"}.get(platform.machine(), "amd64"),
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "infinity"]},
        "rootfs": {"type": "layers", "diff_ids": [layers[0]["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    described = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    index = [described | {"annotations": {"io.containerd.image.name": name}} for name in names]
    files = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": index}).encode(),
    }
    return _tar(files | blobs)


def _tar(files: dict[str, bytes | str]) -> bytes:
    """Return an archive of files (bytes) and symbolic links (str)."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def _sandbox(name: str) -> Any:
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="test"),
        hostname=name,
        linux=cri.LinuxPodSandboxConfig(),
    )


def _netns(state: Any) -> str:
    """Return the path of a sandbox's network namespace."""
    spec = json.loads(state.info["info"])["runtimeSpec"]
    (path,) = (one["path"] for one in spec["linux"]["namespaces"] if one["type"] == "network")
    return str(path)
