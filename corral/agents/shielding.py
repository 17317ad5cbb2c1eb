"""What a thread's secrets and checks work with: its vault, and who may have what is in it."""

from __future__ import annotations

from collections.abc import Callable

from corral.policies.patterns.globs import compile_glob
from corral.policies.redaction import Redactor
from corral.runtime.config import Settings
from corral.runtime.database import Database
from corral.runtime.stations.shield import ShieldTerms
from corral.runtime.vault import Vault, VaultKey
from corral.tools.contract import ToolSpec
from corral.tools.settings import BUILTIN_SERVERS


class Shielding:
    """The shields of one process's runs."""

    def __init__(self, settings: Settings, database: Database, redactor: Redactor) -> None:
        self._settings = settings
        self._database = database
        self._redactor = redactor

    async def of(self, thread: str, sandboxed: frozenset[str]) -> ShieldTerms:
        """What shields a run in a thread; ``sandboxed`` servers really run in the sandbox."""
        if not self._settings.redaction.reversible:
            return ShieldTerms(self._redactor)
        vault = self._vault(thread)
        await vault.load()
        own = frozenset(BUILTIN_SERVERS) & sandboxed - self._settings.networked_servers
        return ShieldTerms(self._redactor.keeping(vault), vault, self._may_have(own))

    async def share(self, thread: str, other: str) -> None:
        """Let a thread that goes on from another know what that one's placeholders stand for."""
        if self._settings.redaction.reversible:
            vault = self._vault(thread)
            await vault.load()
            await vault.copy_to(other)

    def _vault(self, thread: str) -> Vault:
        return Vault(self._database, VaultKey(self._settings.home), thread)

    def _may_have(self, own: frozenset[str]) -> Callable[[ToolSpec], bool]:
        """Our servers in the sandbox, which reach nothing from there, and whom the user has named.

        A name counts only for a tool that a server has: a sub-agent gets the placeholder, which
        means the same to it.
        """
        named = [compile_glob(pattern) for pattern in self._settings.redaction.reveal_to]

        def may_have(spec: ToolSpec) -> bool:
            return spec.server in own or any(one.matches(spec.name) for one in named)

        return may_have
