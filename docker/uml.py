"""A node on a kernel of its own: user-mode Linux, for version 2 cgroups on any machine.

A first node, whose root holds that kernel, boots it as a process; inside it the
node runner boots the node that was asked for.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import boot

HERE = Path(__file__).resolve().parent
COMMAND = "/node/command"


def plan(node: boot.Plan, kernel_root: Path) -> boot.Plan:
    """What boots the kernel that boots `node`."""
    inside = [
        boot.Bind(bind.source, f"/node/bind/{number}", bind.read_only)
        for number, bind in enumerate(node.binds)
    ]
    return boot.Plan(
        root=kernel_root,
        staging=node.staging,
        hierarchies=node.hierarchies,
        binds=[
            boot.Bind(str(HERE), "/node/docker", read_only=True),
            boot.Bind(str(node.root), "/node/root", read_only=True),
            *inside,
        ],
        scripts={COMMAND: _script(node, inside)},
        environment=node.environment,
        command=["/node/docker/uml.sh"],
    )


def _script(node: boot.Plan, inside: Sequence[boot.Bind]) -> str:
    words = ["/node/docker/node", "run", "--no-pool", "--root", "/node/root"]
    for outer, bind in zip(inside, node.binds):
        suffix = ":ro" if bind.read_only else ""
        words += ["--bind", f"{outer.target}:{bind.target}{suffix}"]
    for name, value in node.environment.items():
        words += ["--env", f"{name}={value}"]
    return f"#!/bin/sh\nexec {shlex.join([*words, '--', *node.command])}\n"
