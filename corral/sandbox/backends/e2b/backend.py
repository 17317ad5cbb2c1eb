"""The back end ``e2b``: what a profile becomes at the service."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corral.errors import SandboxError
from corral.sandbox.backends.e2b.lease import first_seconds
from corral.sandbox.backends.e2b.sandbox import CAPABILITIES, E2BSandbox
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Command, Limits, Profile, Snapshot
from corral.sandbox.network.rules import Network, NetworkRule

if TYPE_CHECKING:
    from e2b import SandboxNetworkOpts

_EVERYWHERE = "0.0.0.0/0"
_PORTS = frozenset({80, 443})
_METADATA = {"started-by": "corral"}


@dataclass(frozen=True)
class E2BBackend:
    """``e2b``: a hosted service. Code and data leave this machine."""

    options: E2BOptions

    @property
    def name(self) -> str:
        """``e2b``."""
        return "e2b"

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> E2BSandbox:
        """Start a sandbox from the template, or from a snapshot.

        Raises ``SandboxError`` for a profile that the service cannot keep to: folders and packages
        of this machine, and network rules by method, by port or to private addresses.
        """
        from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

        _check(profile)
        wall = profile.limits.wall_seconds
        self._check_key()
        with self.options.asked_to("start a sandbox"):
            sdk = await AsyncSandbox.create(
                template=snapshot.ref if snapshot is not None else self.options.template,
                timeout=first_seconds(self.options, wall),
                metadata=_METADATA,
                envs=dict(profile.env),
                allow_internet_access=bool(profile.network),
                network=_network(profile.network),
                **self.options.params,
            )
        return E2BSandbox(sdk, self.options, profile.limits)

    async def connect(self, sandbox_id: str, limits: Limits | None = None) -> E2BSandbox:
        """A sandbox that was started elsewhere, by its ``id``; a paused one goes on.

        Raises ``SandboxError`` when there is none.
        """
        from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

        limits = limits or Limits()
        self._check_key()
        with self.options.asked_to(f"connect to the sandbox {sandbox_id}"):
            seconds = first_seconds(self.options, limits.wall_seconds)
            sdk = await AsyncSandbox.connect(sandbox_id, seconds, **self.options.params)
        assert isinstance(sdk, AsyncSandbox)  # its signature says only that it is one of the base
        return E2BSandbox(sdk, self.options, limits)

    def probe(self) -> Health:
        """Start one and look what it can do. Never raises."""
        with ThreadPoolExecutor(1) as thread:  # there may be an event loop in this one
            return thread.submit(asyncio.run, _probe(self)).result()

    def _check_key(self) -> None:
        if not self.options.api_key:
            raise SandboxError(
                "E2B needs a key, and there is none.",
                hint="Set the variable that `api_key_env` of [e2b] names.",
            )


def _check(profile: Profile) -> None:
    if profile.grants or profile.workdir or profile.packages:
        raise SandboxError(
            "A sandbox at E2B cannot see folders of this machine.",
            hint="Send what it needs with `files.put_archive`, and install packages in a template.",
        )


def _network(network: Network) -> SandboxNetworkOpts | None:
    if not network:
        return None
    if network.forwards:
        raise SandboxError(
            "A sandbox at E2B cannot be given a service of this machine.",
            hint="Use a back end of this machine for it.",
        )
    for rule in network.rules:
        _check_rule(rule)
    if any(rule.host == "*" and not rule.inject for rule in network.rules):
        return None
    rules: dict[str, Any] = {
        rule.host: [{"transform": {"headers": dict(rule.inject)}}]
        for rule in network.rules
        if rule.inject
    }
    hosts = [rule.host for rule in network.rules]
    return {"allow_out": hosts, "deny_out": [_EVERYWHERE], "rules": rules}


def _check_rule(rule: NetworkRule) -> None:
    asked = {
        "by method": rule.methods,
        "to private addresses": rule.private,
        "by a port other than 80 and 443": set(rule.ports) - _PORTS,
        "with credentials to every host": rule.host == "*" and rule.inject,
    }
    for what, given in asked.items():
        if given:
            raise SandboxError(
                f"E2B cannot allow {rule.host} {what}.",
                hint="Allow the whole host, or use a back end of this machine.",
            )


_CANARY = "import socket; socket.create_connection(('1.1.1.1', 443), 3)"


async def _probe(backend: E2BBackend) -> Health:
    try:
        sandbox = await backend.open(Profile())
        try:
            works = await sandbox.run_code("6 * 7")
            code = (await sandbox.run(Command(("python3", "-c", _CANARY)))).code
        finally:
            await sandbox.stop()
    except SandboxError as error:
        return Health(backend.name, ok=False, detail=error.message, hint=error.hint)
    wrong = ["does not compute"] if works.value != "42" else []
    wrong += ["reaches the internet"] if code == 0 else []
    if wrong:
        detail = f"Code in it {' and '.join(wrong)}."
        return Health(backend.name, ok=False, detail=detail, hint="Check the template.")
    detail = "A sandbox of the service computes, and reaches no network."
    return Health(backend.name, ok=True, detail=detail, capabilities=CAPABILITIES)
