"""Tokens of an authorization server: whose count, and whose do not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs

from corral.errors import ConfigError
from corral.mcp_servers.serving import http
from corral.mcp_servers.serving.oauth import IssuedToken, Keys
from corral.runtime.serve_settings import OAuthSettings, ServeSettings
from tests.mcp_servers.serving.service import LOG, envelope
from tests.mcp_servers.serving.web import Site, result, site

ISSUER = "https://issuer.example/tenant"
AUDIENCE = "https://mcp.example/mcp"
OAUTH = OAuthSettings(issuer=ISSUER, audience=AUDIENCE, scopes=("agents",))
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def claims(**changes: Any) -> dict[str, Any]:
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "exp": int(time.time()) + 600,
        "scope": "openid agents",
        "client_id": "claude",
    }
    return {key: value for key, value in (said | changes).items() if value is not None}


def token(
    key: Any = RSA,
    name: str | None = "rsa",
    algorithm: str = "RS256",
    kind: Any = "JWT",
    **said: Any,
) -> str:
    headers = {"typ": kind} | ({"kid": name} if name else {})
    return jwt.encode(claims(**said), key, algorithm, headers)


class Issuer:
    """An authorization server, as far as its keys go."""

    def __init__(self, **changes: Any) -> None:
        self.asked: list[str] = []
        self.metadata = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys", **changes}
        self.keys = [
            {**json.loads(RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "rsa", "alg": "RS256"},
            {**json.loads(ECAlgorithm.to_jwk(CURVE.public_key())), "kid": "ec", "alg": "ES256"},
        ]
        self.now = 0.0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(str(request.url))
        match request.url.path:
            case "/.well-known/oauth-authorization-server/tenant":
                return httpx2.Response(200, json=self.metadata)
            case "/tenant/keys":
                return httpx2.Response(200, json={"keys": self.keys})
            case _:
                return httpx2.Response(404)

    def verifier(self, settings: OAuthSettings = OAUTH) -> IssuedToken:
        keys = Keys(settings, httpx2.MockTransport(self.answer), lambda: self.now)
        return IssuedToken(settings, keys)


@pytest.mark.parametrize(
    ("key", "name", "algorithm"), [(RSA, "rsa", "RS256"), (CURVE, "ec", "ES256")]
)
async def test_a_token_of_the_issuer_for_us_counts(key: Any, name: str, algorithm: str) -> None:
    issuer = Issuer()
    found = await issuer.verifier().verify_token(token(key, name, algorithm))
    assert found is not None
    assert (found.subject, found.claims) == ("user-1", {"iss": ISSUER})
    assert found.scopes == ["openid", "agents"]
    assert found.token == ""


def _tampered() -> str:
    head, _, end = token().split(".")
    return ".".join([head, token(sub="root").split(".")[1], end])


@pytest.mark.parametrize(
    "made",
    [
        lambda: token(aud="https://other.example/mcp"),
        lambda: token(aud="https://mcp.example"),
        lambda: token(aud=None),
        lambda: token(iss="https://evil.example"),
        lambda: token(iss=f"{ISSUER}/"),
        lambda: token(sub=None),
        lambda: token(sub=""),
        lambda: token(exp=None),
        lambda: token(exp=int(time.time()) - 3_600),
        lambda: token(nbf=int(time.time()) + 3_600),
        lambda: token(STRANGER),
        lambda: token(name="other"),
        lambda: token(name=None),
        lambda: token(RSA, "ec"),
        lambda: token(RSA, algorithm="RS512"),
        lambda: token("k" * 64, algorithm="HS256"),
        lambda: token(None, algorithm="none"),
        _tampered,
        lambda: "",
        lambda: "a.b.c",
        lambda: "x" * 100_000,
    ],
)
async def test_any_other_does_not(made: Callable[[], str]) -> None:
    assert await Issuer().verifier().verify_token(made()) is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("at+jwt", {}),
        ("AT+JWT", {"nonce": "n", "auth_time": 1}),
        ("application/at+jwt", {}),
        ("jwt", {"auth_time": 1, "acr": "1", "amr": ["pwd"]}),
        (None, {}),
        ("", {}),
        ("JWT", {"typ": "Bearer", "nonce": "as Keycloak had it before 24"}),
        (None, {"token_use": "access"}),
    ],
)
async def test_issuers_that_mark_access_tokens_less_than_they_should(
    kind: str | None, said: dict[str, Any]
) -> None:
    assert await Issuer().verifier().verify_token(token(kind=kind, **said)) is not None


@pytest.mark.parametrize(
    ("said", "scopes"),
    [
        ({"scope": None, "scp": ["agents", "x"]}, ["agents", "x"]),
        ({"scope": 7}, []),
        ({"scope": {"agents": True}}, []),
        ({"scope": None}, []),
    ],
)
async def test_scopes_are_a_text_or_a_list(said: dict[str, Any], scopes: list[str]) -> None:
    found = await Issuer().verifier().verify_token(token(**said))
    assert found is not None
    assert found.scopes == scopes


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("JWT", {"nonce": "n"}),
        (None, {"at_hash": "h"}),
        ("JWT", {"c_hash": "h"}),
        ("JWT", {"typ": "ID"}),
        ("JWT", {"typ": "Refresh"}),
        ("JWT", {"typ": 7}),
        (None, {"token_use": "id"}),
        ("JWT", {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        ("logout+jwt", {}),
        ("id+jwt", {}),
        ("dpop+jwt", {}),
        ("secevent+jwt", {}),
        ("at+jwt ", {}),
        (["at+jwt"], {}),
        (7, {}),
    ],
)
async def test_another_kind_of_the_issuers_tokens_is_no_access_token(
    kind: Any, said: dict[str, Any]
) -> None:
    assert await Issuer().verifier().verify_token(token(kind=kind, **said)) is None


async def test_one_for_several_audiences_counts_for_each() -> None:
    found = await Issuer().verifier().verify_token(token(aud=[AUDIENCE, "https://b.example"]))
    assert found is not None


async def test_keys_are_asked_for_once_and_again_for_a_new_one() -> None:
    issuer = Issuer()
    verifier = issuer.verifier()
    for _ in range(3):
        assert await verifier.verify_token(token())
    assert len(issuer.asked) == 2
    for number in range(50):  # made-up ones are no way to flood the issuer
        assert await verifier.verify_token(token(name=f"made-up-{number}")) is None
    assert len(issuer.asked) == 2
    issuer.now = 31.0
    issuer.keys[0]["kid"] = "turned"
    assert await verifier.verify_token(token(name="turned"))
    assert len(issuer.asked) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://10.0.0.1/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
)
async def test_metadata_that_is_not_the_issuers_own_gives_no_keys(changes: dict[str, Any]) -> None:
    issuer = Issuer(**changes)
    assert await issuer.verifier().verify_token(token()) is None
    assert all(url.startswith("https://issuer.example/") for url in issuer.asked)


async def test_an_issuer_that_cannot_be_reached_lets_nobody_in() -> None:
    def gone(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("gone")

    verifier = IssuedToken(OAUTH, Keys(OAUTH, httpx2.MockTransport(gone)))
    assert await verifier.verify_token(token()) is None


@pytest.mark.parametrize("field", ["issuer", "audience", "jwks"])
def test_urls_are_https(field: str) -> None:
    with pytest.raises(ConfigError, match="is not an https URL"):
        OAuthSettings.model_validate({**OAUTH.model_dump(), field: "http://issuer.example"})


@pytest.mark.parametrize("url", ["https://a@issuer.example", "https://issuer.example/#b"])
def test_an_issuer_cannot_be_named_so_that_it_looks_like_another_ones_subject(url: str) -> None:
    with pytest.raises(ConfigError, match="a user or a fragment"):
        OAuthSettings.model_validate({**OAUTH.model_dump(), "issuer": url})


class TestByHttp:
    @pytest.fixture
    def guarded(self, monkeypatch: pytest.MonkeyPatch) -> ServeSettings:
        issuer = Issuer()
        monkeypatch.setattr(http, "IssuedToken", issuer.verifier)
        return ServeSettings(oauth=OAUTH)

    async def listed(
        self, here: Site, given: str, host: str = "mcp.example", tool: str = "add"
    ) -> httpx2.Response:
        url = f"http://127.0.0.1:{here.plan.port}/mcp"
        head = here.headers(given) | {"Host": host, "Mcp-Method": "tools/call"}
        head |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Name": tool}
        arguments = {"left": 1, "right": 2} if tool == "add" else {}
        params = {"name": tool, "arguments": arguments, "_meta": envelope("mine")}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return await here.client.post(url, json=message, headers=head)

    async def test_the_subject_is_the_owner(self, tmp_path: Path, guarded: ServeSettings) -> None:
        async with site(tmp_path, guarded) as here:
            answer = await self.listed(here, token())
            assert "result" in result(answer)
            assert here.service.callers[0].owner == f"oauth:{ISSUER}#user-1"

    async def test_it_goes_by_the_name_and_the_port_of_its_audience(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        audience = "https://mcp.example:8443/mcp"
        settings = OAUTH.model_copy(update={"audience": audience})
        monkeypatch.setattr(http, "IssuedToken", lambda _: Issuer().verifier(settings))
        async with site(tmp_path, ServeSettings(oauth=settings)) as here:
            for host, status in (("mcp.example:8443", 200), ("evil.example:8443", 421)):
                answer = await self.listed(here, token(aud=audience), host)
                assert answer.status_code == status

    async def test_who_has_none_is_told_where_to_get_one(
        self, tmp_path: Path, guarded: ServeSettings
    ) -> None:
        async with site(tmp_path, guarded) as here:
            answer = await self.listed(here, token(aud="https://other.example"))
            assert answer.status_code == 401
            place = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
            assert f'resource_metadata="{place}"' in answer.headers["www-authenticate"]
            url = f"http://127.0.0.1:{here.plan.port}{httpx2.URL(place).path}"
            metadata = await here.client.get(url, headers={"Host": "mcp.example"})
            assert metadata.json()["resource"] == AUDIENCE
            assert metadata.json()["authorization_servers"] == [ISSUER]
            assert not here.service.callers

    async def test_one_without_the_scope_is_refused(
        self, tmp_path: Path, guarded: ServeSettings
    ) -> None:
        async with site(tmp_path, guarded) as here:
            answer = await self.listed(here, token(scope="openid"))
            assert answer.status_code == 403
            assert "insufficient_scope" in answer.headers["www-authenticate"]

    @pytest.mark.parametrize("tool", ["lose", "move"])
    async def test_who_comes_with_one_does_not_read_where_things_are_here(
        self, tmp_path: Path, guarded: ServeSettings, tool: str
    ) -> None:
        async with site(tmp_path, guarded) as here:
            with capture_logs() as logs:
                answer = result(await self.listed(here, token(), tool=tool))
            [block] = answer["result"]["content"]
            assert str(LOG.parent) not in block["text"]
            [logged] = logs
            assert logged["mark"] in block["text"]
            assert str(LOG.parent) in str(logged["exc_info"])
            failed = str(result(await self.listed(here, token(), tool="fail")))
            assert str(LOG.parent) not in failed
            assert failed.count("corral trace r-1") == 2  # in words, and structured
            refused = result(await self.listed(here, token(), tool="refuse"))
            assert "The run has ended. Start another one." in str(refused)

    async def test_anothers_session_is_not_found(
        self, tmp_path: Path, guarded: ServeSettings
    ) -> None:
        async with site(tmp_path, guarded) as here:
            here.client.headers["Host"] = "mcp.example"
            url = f"http://127.0.0.1:{here.plan.port}/mcp"
            params = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "mine", "version": "1"},
            }
            message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            head = here.headers(token())
            session = (await here.client.post(url, json=message, headers=head)).headers[
                "mcp-session-id"
            ]
            listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            statuses = [
                (
                    await here.client.post(
                        url,
                        json=listing,
                        headers=here.headers(token(sub=subject), mcp_session_id=session),
                    )
                ).status_code
                for subject in ("user-2", "user-1")
            ]
        assert statuses == [404, 200]
