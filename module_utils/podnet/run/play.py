"""Whether a play of podnet can be run in the way that the user has chosen.

A phase is over when it is over on all hosts, and a run that leaves out a task or a host has not
done what it reports. Ansible lets users choose strategy, batches, tags, the first task and hosts;
this module says which of these choices podnet accepts.
"""

from __future__ import annotations

from typing import Collection, NamedTuple, Sequence

from ..plan.checks import show

#: Strategies in which a task ends on all hosts before the next begins: Ansible's own and Mitogen's.
#: Each is the last part of the name, as in ansible.builtin.linear.
IN_STEP = ("linear", "debug", "mitogen_linear")


class Play(NamedTuple):
    """How a play is run.

    `hosts` are all hosts that take part, `batch` those of the batch under way (`serial`). `tags`
    are those that tasks inherit from the play or role, `only` and `skip` what --tags and
    --skip-tags say. `start_at` is the title that --start-at-task gives, "" for none.
    """

    strategy: str
    hosts: Sequence[str]
    batch: Sequence[str]
    tags: Collection[str] = ()
    only: Collection[str] = ("all",)
    skip: Collection[str] = ()
    start_at: str = ""


def problems(play: Play) -> list[str]:
    """Return why a play cannot be run in this way, a sentence each with the way out."""
    found = []
    if play.strategy.rpartition(".")[2] not in IN_STEP:
        found.append(
            f"strategy: {show(play.strategy)} lets hosts run ahead of each other, and a phase must "
            "be over on all hosts before the next begins. Write strategy: ansible.builtin.linear "
            "into the play"
        )
    waiting = [host for host in play.hosts if host not in set(play.batch)]
    if waiting:
        found.append(
            f"serial: {', '.join(waiting[:5])} would wait for a later batch, and each batch would "
            "decide for itself. Take serial out of the play; --limit runs it for some hosts"
        )
    if not runs(play.tags, play.only, play.skip):
        found.append(
            "--tags and --skip-tags leave out a part of what belongs together. Run without them"
        )
    if play.start_at:
        found.append(
            f"--start-at-task {show(play.start_at)} leaves out what comes before. Run without it: "
            "what is done already is not done again"
        )
    return found


def runs(tags: Collection[str], only: Collection[str], skip: Collection[str]) -> bool:
    """Whether a task with `tags` runs under --tags `only` and --skip-tags `skip`.

    The rule of Ansible's "Tags" guide; `always` and `never` are tags that it knows.
    """
    have = set(tags) or {"untagged"}
    chosen = (
        "always" in have
        or ("all" in only and "never" not in have)
        or not have.isdisjoint(only)
        or ("tagged" in only and have != {"untagged"} and "never" not in have)
    )
    if only and not chosen:
        return False
    if "all" in skip:
        return "always" in have and "always" not in skip
    return have.isdisjoint(skip) and not ("tagged" in skip and have != {"untagged"})


def no_hosts(name: str, group: Sequence[str], hosts: Sequence[str]) -> str:
    """Return why a play for `group`, called `name`, would do nothing, "" if it would not.

    `hosts` are all that --limit leaves.
    """
    if not group:
        return (
            f"{name}: the group is empty or missing: give the inventory a group {name} with the "
            "hosts of the network. Nothing was done"
        )
    if set(group).isdisjoint(hosts):
        return (
            f"--limit leaves no host of the group {name}, so there is nothing to do. Name one of "
            f"{', '.join(group[:5])}"
        )
    return ""
