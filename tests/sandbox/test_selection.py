"""Which sandbox is taken: the one that was named, or the strongest; never a weaker one unasked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from corral.errors import ConfigError, SandboxError
from corral.sandbox import host, registry
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.capabilities import DECLARED, Capabilities, Health
from corral.sandbox.contract import Profile
from corral.sandbox.registry import select_backend

HELD = {name: Health(name, ok=True, detail="", capabilities=DECLARED[name]) for name in DECLARED}
GONE = {name: Health(name, ok=False, detail="is gone.", hint=f"get {name}") for name in DECLARED}


def machine(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Health]) -> None:
    """A machine on which the probes find this."""
    monkeypatch.setattr(registry, "probed", lambda name: found[name])
    monkeypatch.setattr("sys.platform", "linux")


@pytest.mark.parametrize(
    ("missing", "taken"),
    [((), "gvisor"), (("gvisor",), "bubblewrap"), (("gvisor", "bubblewrap"), "landlock")],
)
def test_the_strongest_that_holds_is_taken(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], taken: str
) -> None:
    machine(monkeypatch, HELD | {name: GONE[name] for name in missing})
    assert select_backend("strongest").name == taken


def test_the_strongest_has_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = Health("gvisor", ok=True, detail="", capabilities=Capabilities("user_kernel"))
    machine(monkeypatch, HELD | {"gvisor": weak})
    assert select_backend("strongest").name == "gvisor"
    assert select_backend("strongest", ["memory"]).name == "bubblewrap"


def test_where_none_holds_the_reasons_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, GONE)
    with pytest.raises(SandboxError, match="No sandbox holds") as raised:
        select_backend("strongest")
    assert "landlock: is gone." in raised.value.message
    assert raised.value.hint == "get bubblewrap"


def test_what_is_required_and_missing_is_named_and_who_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, HELD)
    assert select_backend("landlock", ["memory", "isolation:process"]).name == "landlock"
    with pytest.raises(SandboxError, match="isolation:namespace, network:allowlist") as raised:
        select_backend("landlock", ["memory", "isolation:namespace", "network:allowlist"])
    assert 'sandbox = "gvisor"' in raised.value.hint
    machine(monkeypatch, {**GONE, "landlock": HELD["landlock"]})
    with pytest.raises(SandboxError) as raised:
        select_backend("landlock", ["network:allowlist"])
    assert "take it out of sandbox_require" in raised.value.hint


def test_a_stronger_isolation_counts_for_a_weaker_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, HELD)
    assert select_backend("gvisor", ["isolation:process", "isolation:namespace"]).name == "gvisor"


def test_a_back_end_that_does_not_hold_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, GONE)
    with pytest.raises(SandboxError, match="bubblewrap cannot be used: is gone") as raised:
        select_backend("bubblewrap", ["memory"])
    assert raised.value.hint == "get bubblewrap"


def test_no_isolation_has_nothing_that_can_be_required() -> None:
    with pytest.raises(SandboxError, match="none cannot be used"):
        select_backend("none", ["memory"])


def test_a_requirement_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ConfigError, match="names speed") as raised:
        select_backend("bubblewrap", ["speed"])
    assert "isolation:namespace" in raised.value.hint


@pytest.mark.parametrize(("setting", "value"), [("max_user_namespaces", 10000)])
def test_user_namespaces_that_are_off_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: int
) -> None:
    monkeypatch.setattr(
        "pathlib.Path.read_text", lambda path: "0\n" if setting in str(path) else "1"
    )
    with pytest.raises(SandboxError, match=f"{setting} = 0") as raised:
        host.check_user_namespaces()
    assert raised.value.hint == f"Switch them on: sudo sysctl -w user.{setting}={value}"


@pytest.mark.parametrize(
    ("release", "root", "words"),
    [
        ("4.4.0-generic", False, "needs Linux 4.18; this is 4.4.0-generic"),
        ("5.10.0", True, "of root needs Linux 5.12; this is 5.10.0"),
    ],
)
def test_an_old_kernel_is_refused(
    monkeypatch: pytest.MonkeyPatch, release: str, root: bool, words: str
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    with pytest.raises(SandboxError, match=words) as raised:
        BubblewrapBackend().launch(("/bin/true",), Profile())
    assert raised.value.hint


@pytest.mark.parametrize(("abi", "words"), [(0, "no Landlock"), (4, "has Landlock 4")])
def test_a_kernel_with_little_landlock_is_refused(
    monkeypatch: pytest.MonkeyPatch, abi: int, words: str
) -> None:
    monkeypatch.setattr(host, "landlock_abi", lambda: abi)
    with pytest.raises(SandboxError, match=words) as raised:
        select_backend("landlock").launch(("/bin/true",), Profile())
    assert "6.12" in raised.value.hint


def test_without_runsc_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    host.find_runsc.cache_clear()
    with pytest.raises(SandboxError, match="not installed") as raised:
        select_backend("gvisor").launch(("/bin/true",), Profile())
    assert "apt-get install runsc" in raised.value.hint
    host.find_runsc.cache_clear()
