"""The contract, for every back end that a test can open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox.backends.monty import MontyBackend
from corral.sandbox.contract import Command, Limits, Profile, Sandbox, SandboxBackend, Snapshot
from corral.sandbox.registry import probed, select_backend
from tests.sandbox.conformance import CHECKS, LIMIT, PROFILE, starts_from_a_snapshot
from tests.sandbox.e2b.service import StandIn, running

_ALL = frozenset({"commands", "files", "folders", "code", "processes", "pause", "snapshot"})
_PARTS = {
    "bubblewrap": _ALL,
    "landlock": _ALL,
    "e2b": _ALL,
    "monty": frozenset({"files", "code"}),
}
_SLOW = {"landlock": pytest.mark.slow, "e2b": pytest.mark.slow}
_CASES = [
    pytest.param(name, check, id=f"{name}-{check}", marks=_SLOW.get(name, ()))
    for name, parts in _PARTS.items()
    for check, found in CHECKS.items()
    if found.needs <= parts
]


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("stand-in")) as found:
        yield found


def _backend(name: str, standin: StandIn) -> SandboxBackend:
    if name == "e2b":
        return standin.backend()
    return MontyBackend() if name == "monty" else select_backend(name)


def _profile(name: str) -> Profile:
    return Profile(limits=Limits(output=LIMIT)) if name == "monty" else PROFILE


@pytest.fixture
async def sandbox(
    request: pytest.FixtureRequest, standin: StandIn, tmp_path: Path
) -> AsyncIterator[Sandbox]:
    name = request.param
    if name == "landlock" and not (health := probed(name)).ok:
        pytest.skip(f"landlock does not hold here: {health.detail}")
    opened = await _backend(name, standin).open(_profile(name))
    yield opened
    await opened.stop()


@pytest.mark.parametrize(("sandbox", "check"), _CASES, indirect=["sandbox"])
async def test_it_keeps_the_contract(sandbox: Sandbox, check: str) -> None:
    await CHECKS[check].run(sandbox)


@pytest.mark.parametrize(
    ("sandbox", "name"),
    [
        pytest.param(name, name, marks=_SLOW.get(name, ()))
        for name, parts in _PARTS.items()
        if "snapshot" in parts
    ],
    indirect=["sandbox"],
)
async def test_it_starts_from_a_snapshot(sandbox: Sandbox, name: str, standin: StandIn) -> None:
    async def again(snapshot: Snapshot) -> Sandbox:
        return await _backend(name, standin).open(PROFILE, snapshot)

    await starts_from_a_snapshot(sandbox, again)


@pytest.mark.parametrize("sandbox", ["monty"], indirect=True)
async def test_monty_says_what_it_has_not(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="operating system"):
        await sandbox.run(Command(("true",)))
    with pytest.raises(SandboxError, match="operating system"):
        sandbox.stream(Command(("true",)))
    for attempt in (sandbox.session("shell"), sandbox.snapshot(), sandbox.pause()):
        with pytest.raises(SandboxError, match="operating system"):
            await attempt
    files = sandbox.files
    for refusal in (files.make_folder("a"), files.put_archive(b""), files.get_archive()):
        with pytest.raises(SandboxError, match="names with contents"):
            await refusal
