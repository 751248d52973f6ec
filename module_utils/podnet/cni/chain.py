"""Run the plugin chain of a CNI network for one network namespace, as a container runtime does.

CNI spec 1.0.0, section 2 (execution protocol), section 3 (chain: ADD in order, DEL in reverse,
each with the result of the one before) and section 4 (how a plugin's own configuration is made
from the list). Plugins are real programs; nothing here knows what they do.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from ..core.errors import PodnetError

#: Seconds for one plugin; IPv6 duplicate address detection alone may take ten.
TIMEOUT = 30


@dataclass(frozen=True)
class Attachment:
    """What a runtime tells every plugin: which container, which namespace, which interface."""

    container: str
    netns: str
    interface: str = "eth0"


@dataclass(frozen=True)
class PluginChain:
    """The plugins of one network, from its conflist, and the directories they are looked up in."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    directories: tuple[str, ...]

    @classmethod
    def from_text(cls, text: str, directories: Sequence[str]) -> PluginChain:
        """Read a conflist; raise PodnetError when it is none."""
        try:
            document = json.loads(text)
            plugins = tuple(dict(plugin) for plugin in document["plugins"])
            for plugin in plugins:
                if not isinstance(plugin["type"], str) or "/" in plugin["type"]:
                    raise ValueError(f"plugin type {plugin['type']!r}")
            return cls(
                str(document["name"]), str(document["cniVersion"]), plugins, tuple(directories)
            )
        except (ValueError, TypeError, KeyError) as error:
            raise PodnetError(f"CNI: not a network configuration list ({error})") from error

    def add(
        self, attachment: Attachment, capabilities: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Attach the namespace and return the last plugin's result.

        `capabilities` are the runtime's values (``{"portMappings": [...]}``); a plugin is given
        those that its configuration asks for. When a plugin fails, the chain is undone, as the
        spec asks of runtimes, and PodnetError says what the plugin said.
        """
        result: dict[str, Any] | None = None
        try:
            for plugin in self.plugins:
                result = self._run("ADD", plugin, attachment, result, capabilities)
        except PodnetError:
            self._undo(attachment, capabilities)
            raise
        return result or {}

    def delete(
        self,
        attachment: Attachment,
        result: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, Any] | None = None,
    ) -> None:
        """Detach the namespace; `result` is what `add` returned. Safe to repeat.

        Raises PodnetError at the first plugin that fails; those before it in the chain are not run.
        """
        for plugin in reversed(self.plugins):
            self._run("DEL", plugin, attachment, result, capabilities)

    def check(
        self,
        attachment: Attachment,
        result: Mapping[str, Any],
        capabilities: Mapping[str, Any] | None = None,
    ) -> None:
        """Ask every plugin whether the attachment still is as `result` says (spec 0.4.0 on).

        Raises PodnetError with the answer of the first plugin that says no.
        """
        for plugin in self.plugins:
            self._run("CHECK", plugin, attachment, result, capabilities)

    def _undo(self, attachment: Attachment, capabilities: Mapping[str, Any] | None) -> None:
        for plugin in reversed(self.plugins):
            try:
                self._run("DEL", plugin, attachment, None, capabilities)
            except PodnetError:
                # The caller reports why ADD failed; the plugins before this one must be undone,
                # too.
                continue

    def _run(
        self,
        command: str,
        plugin: Mapping[str, Any],
        attachment: Attachment,
        previous: Mapping[str, Any] | None,
        capabilities: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        kind = plugin["type"]
        program = find_plugin(kind, self.directories)
        if program is None:
            raise PodnetError(
                f"CNI plugin {kind}: not found in {', '.join(self.directories)}; install the CNI "
                "plugins (podnet_cni_install)"
            )
        configuration = dict(plugin, cniVersion=self.version, name=self.name)
        asked = configuration.pop("capabilities", None) or {}
        given = {key: (capabilities or {})[key] for key in asked if key in (capabilities or {})}
        if given:
            configuration["runtimeConfig"] = given
        if previous is not None:
            configuration["prevResult"] = previous
        environment = dict(
            os.environ,
            CNI_COMMAND=command,
            CNI_CONTAINERID=attachment.container,
            CNI_NETNS=attachment.netns,
            CNI_IFNAME=attachment.interface,
            CNI_ARGS="IgnoreUnknown=1",
            CNI_PATH=":".join(self.directories),
        )
        return _execute(program, command, environment, json.dumps(configuration))


def find_plugin(kind: str, directories: Sequence[str]) -> str | None:
    """Return the path of the first program named `kind` in `directories`."""
    for directory in directories:
        path = Path(directory) / kind
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return None


def supported_versions(programs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Ask plugins which spec versions they speak (``CNI_COMMAND=VERSION``), all at once.

    Returns program -> versions. Raises PodnetError naming a program that does not answer as the
    spec says.
    """
    environment = dict(os.environ, CNI_COMMAND="VERSION", CNI_PATH="")
    running: list[tuple[str, subprocess.Popen[str]]] = []
    answers: dict[str, tuple[str, ...]] = {}
    try:
        for program in programs:
            running.append((program, _start(program, environment)))
        for program, process in running:
            # The spec of 0.x wants a cniVersion on stdin even here; later plugins ignore it.
            answer = _finish(program, "VERSION", process, '{"cniVersion":"0.3.1"}')
            versions = answer.get("supportedVersions")
            if not isinstance(versions, list) or not all(isinstance(one, str) for one in versions):
                raise PodnetError(f"{program}: did not say which CNI versions it speaks")
            answers[program] = tuple(versions)
    finally:
        for _program, process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return answers


def _execute(
    program: str, command: str, environment: Mapping[str, str], text: str
) -> dict[str, Any]:
    return _finish(program, command, _start(program, environment), text)


def _start(program: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            text=True,
        )
    except OSError as error:
        raise PodnetError(
            f"{program}: cannot run it ({error.strerror}); is it built for this machine?"
        ) from error


def _finish(
    program: str, command: str, process: subprocess.Popen[str], text: str
) -> dict[str, Any]:
    try:
        output, errors = process.communicate(text, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise PodnetError(f"{program}: {command} did not end within {TIMEOUT} s") from error
    except OSError as error:
        raise PodnetError(f"{program}: {command}: {error.strerror}") from error
    try:
        answer = json.loads(output) if output.strip() else {}
    except ValueError:
        answer = None
    if process.returncode != 0:
        said = errors.strip() or output.strip() or f"status {process.returncode}"
        if isinstance(answer, dict) and answer.get("msg"):
            said = ": ".join(str(answer[key]) for key in ("msg", "details") if answer.get(key))
        raise PodnetError(f"{program}: {command} failed: {said}")
    if not isinstance(answer, dict):
        raise PodnetError(f"{program}: {command}: what it printed is no JSON object: {output!r}")
    return answer
