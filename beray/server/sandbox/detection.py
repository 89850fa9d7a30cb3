"""Probes that determine how commands are isolated on this host."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from beray.server.sandbox import bubblewrap, network_policy, probe
from beray.server.sandbox.bubblewrap import PATH, CommandLine
from beray.server.sandbox.interpreter import interpreter_binds
from beray.server.sandbox.launching import environment, run_supervised
from beray.server.sandbox.layout import check_layout, private_paths
from beray.server.sandbox.masking import UnmaskableLayout
from beray.server.sandbox.network_policy import CommandNetwork, NetworkState
from beray.server.sandbox.probe import Decision, Failure
from beray.server.setting_types import uids
from beray.server.settings import Settings

PROBE_SECONDS: Final = 10.0
"""Time limit of one probe."""
NOT_PERMITTED: Final = 126
"""Exit status of the launcher if this user may not create network namespaces."""
_LIMITS: Final = {"core": 0}

log = structlog.get_logger("beray.sandbox")


def own_uids(settings: Settings) -> uids.UidRange | None:
    """Return the host uids of sandboxed commands, or None if they have the server's uid."""
    return uids.parse(settings.sandbox_uids) if os.geteuid() == 0 else None


async def decide(settings: Settings) -> Decision:
    """Return the sandbox that this server would use. Nothing is changed on disk."""
    if settings.sandbox == "none":
        return Decision(
            "none", "BERAY_SANDBOX=none turns the sandbox off. Unset it to isolate commands."
        )
    failure = probe.not_installed() or _failure_of_uids(settings)
    if failure is None:
        try:
            check_layout(settings)
            failure = await _failure(settings)
        except UnmaskableLayout as error:
            return Decision(None, str(error))
        except OSError as error:  # the mount table is unreadable, or no descriptor is free
            failure = Failure(f"bubblewrap could not be tested: {error.strerror}")
    return probe.decide(settings, failure)


async def find_network(settings: Settings, *, sandboxed: bool) -> NetworkState:
    """Return the network of commands; a network namespace is probed before it is used."""
    state = network_policy.find_state(
        sandboxed=sandboxed, shared=settings.shared, allow=settings.network_destinations()
    )
    if state.mode != "own":
        return state
    async with run_supervised(
        ["/bin/sh", "-c", ":"], cwd=Path("/"), environ=environment("/tmp"), stdin=DEVNULL,
        stderr=PIPE, limits=_LIMITS, network=CommandNetwork("own", public=True),
    ) as command:  # fmt: skip
        _, errors = await command.process.communicate()
    problem = errors.decode(errors="replace").strip()
    if command.process.returncode == NOT_PERMITTED:
        return network_policy.not_permitted(problem, settings.shared)
    if command.process.returncode:
        log.error("a command with a network could not be started", problem=problem)
    return state


async def problem_of_commands(settings: Settings) -> str | None:
    """Run a command in the basic sandbox; return the reason why it fails, or None."""
    sandbox = bubblewrap.command_line(
        None, None, network=False, etc={}, private=private_paths(settings), uid=_probe_uid(settings)
    )
    failure = await _probe(sandbox)
    return None if failure is None else failure.reason


def _probe_uid(settings: Settings) -> int | None:
    range_ = own_uids(settings)
    return None if range_ is None else range_.of_user(None)


def _failure_of_uids(settings: Settings) -> Failure | None:
    range_ = own_uids(settings)
    problem = None if range_ is None else range_.unmapped()
    if problem is None:
        return None
    return Failure(problem, f"Set {uids.SETTING} to a range within them")


async def _failure(settings: Settings) -> Failure | None:
    """Return why a command cannot run in every kind of sandbox, or None if it can.

    A failure that may be temporary is probed again.

    Raises:
        UnmaskableLayout: Private data cannot be hidden from commands.
    """
    failure = await _first_failure(settings)
    for attempt in range(1, probe.ATTEMPTS):
        if failure is None or failure.permanent:
            break
        await asyncio.sleep(attempt * probe.RETRY_SECONDS)
        failure = await _first_failure(settings)
    return failure


async def _first_failure(settings: Settings) -> Failure | None:
    private = private_paths(settings)
    uid = _probe_uid(settings)
    sandboxes = [
        bubblewrap.command_line(None, None, network=False, etc={}, private=private, uid=uid)
    ]
    for binds in (settings.agent_binds(), interpreter_binds()):
        plain = bubblewrap.command_line(None, None, network=False, etc={}, binds=binds, uid=uid)
        masked = bubblewrap.command_line(
            None, None, network=False, etc={}, binds=binds, private=private, uid=uid
        )
        # Without masks of its own, this sandbox works if the first one does.
        if masked != plain:
            sandboxes.append(masked)
    for sandbox in sandboxes:
        failure = await _probe(sandbox)
        if failure is not None:
            return failure
    return None


async def _probe(sandbox: CommandLine) -> Failure | None:
    """Run a command that needs no disk space; return its failure, or None if it works."""
    environ = environment("/tmp") | {"PATH": PATH}
    try:
        async with run_supervised(
            ["/bin/sh", "-c", "echo works"], cwd=Path("/"), environ=environ, stdin=DEVNULL,
            stderr=STDOUT, limits=_LIMITS, sandbox=sandbox, wait_for_resources=False,
        ) as command:  # fmt: skip
            process = command.process
            assert process.stdout is not None
            async with asyncio.timeout(PROBE_SECONDS):
                output = await process.stdout.read()
                status = await process.wait()
    except TimeoutError:
        return Failure(f"bubblewrap could not be tested: no output within {PROBE_SECONDS:g} s")
    except OSError as error:
        return Failure(f"bubblewrap could not be tested: {error.strerror}")
    if status == 0 and output == b"works\n":
        return None
    failure = probe.classify(status, output.decode(errors="replace"))
    if failure.permanent and (setting := bubblewrap.userns_restriction()) is not None:
        return replace(
            failure,
            remedy=f"Change {setting}, which restricts the user namespaces that bwrap needs, or "
            "install an AppArmor profile that permits them to bwrap",
        )
    return failure
