"""Where a server may send who logs in: its own word for it leads to nothing that is near us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.auth import OAuthFlowError

from corral.tools.oauth.logins import LoginFile, Person
from corral.tools.oauth.provider import open_login
from corral.tools.oauth.settings import OAuthEntry
from corral.tools.oauth.transport import Authorized


class Recording(httpx2.AsyncBaseTransport):
    """A server that says where its login is described."""

    def __init__(self, described: str) -> None:
        self._described = described
        self.reached: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.reached.append(request.url.host)
        challenge = f'Bearer resource_metadata="{self._described}"'
        headers = {"www-authenticate": challenge}
        return httpx2.Response(401, headers=headers, stream=httpx2.ByteStream(b""))


async def sent(url: str, described: str, folder: Path) -> Any:
    """What is reached of a request to a server whose login is described there."""

    async def nobody(*_: Any) -> Any:
        raise OAuthFlowError("nobody is here")

    inner = Recording(described)
    person = Person("http://127.0.0.1/callback", nobody, nobody)
    login = open_login(LoginFile(folder, "web", url), OAuthEntry(), person)
    with pytest.raises(OAuthFlowError) as caught:
        await Authorized(inner, login).handle_async_request(httpx2.Request("POST", url))
    return inner.reached, str(caught.value)


@pytest.mark.parametrize(
    "described",
    [
        "http://127.0.0.1:8080/admin",
        "http://localhost:8080/admin",
        "https://10.0.0.1/admin",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/admin",
    ],
)
async def test_a_server_on_the_internet_leads_to_nothing_of_this_network(
    described: str, tmp_path: Path
) -> None:
    reached, said = await sent("https://1.1.1.1/mcp", described, tmp_path)
    assert reached == ["1.1.1.1"]
    assert "only this network leads" in said


async def test_a_server_of_this_machine_may_have_its_login_here(tmp_path: Path) -> None:
    reached, _ = await sent("http://127.0.0.1:9/mcp", "http://127.0.0.1:8/about", tmp_path)
    assert len(reached) > 1
