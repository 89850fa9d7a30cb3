"""Find out by probes which isolation commands get on this host."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from beray.server.sandbox import bubblewrap, network_policy, probe, uids
from beray.server.sandbox.bubblewrap import PATH, CommandLine
from beray.server.sandbox.interpreter import interpreter_binds
from beray.server.sandbox.launching import environment, supervised
from beray.server.sandbox.layout import check_layout, private_paths
from beray.server.sandbox.masking import UnmaskableLayout
from beray.server.sandbox.network_policy import CommandNetwork, NetworkState
from beray.server.sandbox.probe import Decision, Failure
from beray.server.settings import Settings

PROBE_SECONDS: Final = 10.0
NOT_PERMITTED: Final = 126
"""Exit status of the launcher if this user may not create network namespaces."""
_LIMITS: Final = {"core": 0}

log = structlog.get_logger("beray.sandbox")


def own_uids(settings: Settings) -> uids.UidRange | None:
    """Return the host uids of sandboxed commands; None if they have the server's uid."""
    return uids.parse(settings.sandbox_uids) if os.geteuid() == 0 else None


async def decide(settings: Settings) -> Decision:
    """Return which sandbox this server would use. Nothing is changed on disk."""
    if settings.sandbox == "none":
        return Decision("none", "BERAY_SANDBOX=none turns it off. Unset it to isolate commands.")
    failure = probe.not_installed() or _failure_of_uids(settings)
    if failure is None:
        try:
            check_layout(settings)
            failure = await _failure(settings)
        except UnmaskableLayout as error:
            return Decision(None, str(error))
        except OSError as error:  # of the kernel's mount table, or without free descriptors
            failure = Failure(f"bubblewrap could not be tested: {error.strerror}")
    return probe.decide(settings, failure)


async def find_network(settings: Settings, *, sandboxed: bool) -> NetworkState:
    """Return the network of commands, after a probe of a network namespace where they have one."""
    found = network_policy.find(
        sandboxed=sandboxed, shared=settings.shared, allow=settings.network_destinations()
    )
    if found.mode != "own":
        return found
    async with supervised(
        ["/bin/sh", "-c", ":"], cwd=Path("/"), environ=environment("/tmp"), stdin=DEVNULL,
        stderr=PIPE, limits=_LIMITS, network=CommandNetwork("own", public=True),
    ) as command:  # fmt: skip
        _, errors = await command.process.communicate()
    problem = errors.decode(errors="replace").strip()
    if command.process.returncode == NOT_PERMITTED:
        return network_policy.not_permitted(problem, settings.shared)
    if command.process.returncode:
        log.error("a command with a network could not be started", problem=problem)
    return found


async def problem_of_commands(settings: Settings) -> str | None:
    """Run one command in the plain sandbox; return why it does not work, or None."""
    box = bubblewrap.command_line(
        None, None, network=False, etc={}, private=private_paths(settings), uid=_probe_uid(settings)
    )
    failure = await _probe(box)
    return None if failure is None else failure.reason


def _probe_uid(settings: Settings) -> int | None:
    range_ = own_uids(settings)
    return None if range_ is None else range_.of_user(None)


def _failure_of_uids(settings: Settings) -> Failure | None:
    range_ = own_uids(settings)
    problem = None if range_ is None else range_.unmapped()
    return None if problem is None else Failure(problem, f"Set {uids.SETTING} to another range")


async def _failure(settings: Settings) -> Failure | None:
    """Run a command in each kind of sandbox, repeatedly if needed; None if that works.

    Raises:
        UnmaskableLayout: private data cannot be hidden from commands.
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
    boxes = [bubblewrap.command_line(None, None, network=False, etc={}, private=private, uid=uid)]
    for binds in (settings.agent_binds(), interpreter_binds()):
        plain = bubblewrap.command_line(None, None, network=False, etc={}, binds=binds, uid=uid)
        masked = bubblewrap.command_line(
            None, None, network=False, etc={}, binds=binds, private=private, uid=uid
        )
        # Without masks of its own, this sandbox works if the first one does.
        if masked != plain:
            boxes.append(masked)
    for box in boxes:
        failure = await _probe(box)
        if failure is not None:
            return failure
    return None


async def _probe(box: CommandLine) -> Failure | None:
    """Run one command that needs no disk; None if it works."""
    environ = environment("/tmp") | {"PATH": PATH}
    try:
        async with supervised(
            ["/bin/sh", "-c", "echo works"], cwd=Path("/"), environ=environ, stdin=DEVNULL,
            stderr=STDOUT, limits=_LIMITS, box=box, patient=False,
        ) as command:  # fmt: skip
            process = command.process
            assert process.stdout is not None
            async with asyncio.timeout(PROBE_SECONDS):
                output = await process.stdout.read()
                status = await process.wait()
    except TimeoutError:
        return Failure(f"bubblewrap could not be tested: no answer in {PROBE_SECONDS:g} s")
    except OSError as error:
        return Failure(f"bubblewrap could not be tested: {error.strerror}")
    if status == 0 and output == b"works\n":
        return None
    failure = probe.classify(status, output.decode(errors="replace"))
    if failure.permanent and (setting := bubblewrap.userns_restriction()) is not None:
        return replace(
            failure,
            remedy=f"{setting} restricts user namespaces, which bwrap needs: change it, or "
            "install an AppArmor profile that permits them to bwrap",
        )
    return failure
