"""Links, downloads and searches of the web server."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.client import RawClient
from tests.mcp_servers.web.conftest import Start
from tests.mcp_servers.web.site import Reply, Request, Sites, redirect

AT = "http://docs.example.com"


class TestLinks:
    def test_each_address_once_with_its_text(self, web: RawClient, sites: Sites) -> None:
        sites.at(
            f"{AT}/l",
            '<base href="/below/"><a href="a#1"><img></a><a href="a#2">A <b>page</b></a>'
            '<a href="http://other.example/x">other</a><a href="mailto:a@b.example">mail</a>'
            '<a href="javascript:x()">js</a><a>none</a><a hidden href="/hidden">hidden</a>',
        )
        found = web.call("links", url=f"{AT}/l")["structuredContent"]
        assert found["links"] == [
            {"url": f"{AT}/below/a", "text": "A page"},
            {"url": "http://other.example/x", "text": "other"},
        ]
        same = web.call("links", url=f"{AT}/l", same_site=True)["structuredContent"]
        assert same["total"] == 1

    def test_in_pages(self, web: RawClient, sites: Sites) -> None:
        sites.at(f"{AT}/many", "".join(f"<a href=/{number}>{number}</a>" for number in range(250)))
        seen = []
        offset: int | None = 0
        while offset is not None:
            page = web.call("links", url=f"{AT}/many", offset=offset)["structuredContent"]
            seen += [link["text"] for link in page["links"]]
            offset = page["next_offset"]
        assert seen == [str(number) for number in range(250)]


class TestDownload:
    def test_a_file(self, web: RawClient, sites: Sites, folder: Path) -> None:
        content = os.urandom(100_000)
        sites.at("http://old.example.com/d", redirect(f"{AT}/files/data.bin?v=1"))
        headers = {"Content-Type": "application/x-thing"}
        sites.at(f"{AT}/files/data.bin", Reply(content, headers=headers))
        result = web.call("download", url="http://old.example.com/d", path="in/here.bin")
        assert result["structuredContent"] == {
            "path": "in/here.bin",
            "url": f"{AT}/files/data.bin?v=1",
            "bytes": 100_000,
            "sha256": hashlib.sha256(content).hexdigest(),
            "type": "application/x-thing",
        }
        assert (folder / "in" / "here.bin").read_bytes() == content
        assert [path.name for path in (folder / "in").iterdir()] == ["here.bin"]

    def test_its_own_name_when_none_is_given(
        self, web: RawClient, sites: Sites, folder: Path
    ) -> None:
        sites.at(f"{AT}/x/own%20name.txt", b"x")
        web.text("download", url=f"{AT}/x/own%20name.txt?a=/../../b")
        assert (folder / "own name.txt").read_bytes() == b"x"
        sites.at(f"{AT}/y/..%2f..%2f.bashrc", b"x")
        web.text("download", url=f"{AT}/y/..%2f..%2f.bashrc")
        assert (folder / "_.._.bashrc").exists()
        assert "give one in path" in web.fault("download", url=f"{AT}/folder/")

    def test_what_is_there_stays_unless_told(
        self, web: RawClient, sites: Sites, folder: Path
    ) -> None:
        (folder / "kept.txt").write_text("mine")
        sites.at(f"{AT}/kept.txt", b"theirs")
        before = len(sites.requests)
        assert "left as it is" in web.fault("download", url=f"{AT}/kept.txt")
        assert len(sites.requests) == before
        assert (folder / "kept.txt").read_text() == "mine"
        web.text("download", url=f"{AT}/kept.txt", overwrite=True)
        assert (folder / "kept.txt").read_text() == "theirs"

    def test_what_comes_into_being_meanwhile_stays_too(
        self, web: RawClient, sites: Sites, folder: Path
    ) -> None:
        def page(_: Request) -> Reply:
            (folder / "raced.txt").write_text("mine")
            return Reply(b"theirs")

        sites.at(f"{AT}/raced.txt", page)
        assert "meanwhile" in web.fault("download", url=f"{AT}/raced.txt")
        assert (folder / "raced.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        "path", ["../out.txt", "/etc/out.txt", "link/out.txt", ".git/config", "corral.toml", "sub"]
    )
    def test_only_into_the_workspace(
        self, web: RawClient, sites: Sites, folder: Path, tmp_path: Path, path: str
    ) -> None:
        (folder / "sub").mkdir(exist_ok=True)
        link = folder / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path)
        sites.at(f"{AT}/out", b"x")
        web.fault("download", url=f"{AT}/out", path=path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("kind", ["too long", "longer than said", "missing", "cut"])
    def test_nothing_is_left_of_one_that_fails(
        self, web: RawClient, sites: Sites, folder: Path, kind: str
    ) -> None:
        replies = {
            "too long": Reply(b"", headers={"Content-Length": str(1 << 40)}),
            "longer than said": Reply(itertools.repeat(bytes(65_536), 20)),
            "missing": Reply(b"no", 404),
            "cut": Reply(iter([b"x"]), headers={"Content-Length": "100"}),
        }
        sites.at(f"{AT}/failing.bin", lambda _: replies[kind])
        before = sorted(folder.iterdir())
        web.fault("download", url=f"{AT}/failing.bin", overwrite=True)
        assert sorted(folder.iterdir()) == before


SEARX = {"results": [{"title": "<b>One</b>", "url": "http://a.example/", "content": "first"}]}
BRAVE = {
    "web": {
        "results": [
            {
                "title": "One",
                "url": "http://a.example/",
                "description": "<strong>first</strong> &",
                "age": "2 days ago",
            }
        ]
    }
}
TAVILY = {"results": [{"title": "One", "url": "http://a.example/", "content": "first"}] * 9}


class TestSearch:
    def search(self, start: Start, provider: str, **arguments: Any) -> dict[str, Any]:
        rules = [["*", [80, 443], False]]
        client = start(
            search={"provider": provider, "url": "http://search.example.org"}, rules=rules
        )
        result = client.call("search", query="a fox & a dog", **arguments)
        assert not result.get("isError"), result["content"][0]["text"]
        return result

    def test_searxng(self, start: Start, sites: Sites) -> None:
        sites.at("http://search.example.org/search", Reply(json.dumps(SEARX).encode()))
        result = self.search(start, "searxng", page=2)
        assert sites.asked()[-1].endswith("/search?q=a+fox+%26+a+dog&format=json&pageno=2")
        assert result["structuredContent"]["results"] == [
            {"title": "One", "url": "http://a.example/", "snippet": "first", "date": ""}
        ]
        assert "no instruction" in result["content"][0]["text"]

    def test_brave(self, start: Start, sites: Sites) -> None:
        sites.at("http://search.example.org/res/v1/web/search", Reply(json.dumps(BRAVE).encode()))
        result = self.search(start, "brave", count=3, page=3)
        assert sites.asked()[-1].endswith("/web/search?q=a+fox+%26+a+dog&count=3&offset=2")
        assert result["structuredContent"]["results"] == [
            {
                "title": "One",
                "url": "http://a.example/",
                "snippet": "first &",
                "date": "2 days ago",
            }
        ]

    def test_tavily(self, start: Start, sites: Sites) -> None:
        sites.at("http://search.example.org/search", Reply(json.dumps(TAVILY).encode()))
        result = self.search(start, "tavily", count=4)
        request = sites.requests[-1]
        assert request.method == "POST"
        assert json.loads(request.body) == {"query": "a fox & a dog", "max_results": 4}
        assert len(result["structuredContent"]["results"]) == 4

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (Reply(b"{}", 401), "does not accept the key"),
            (Reply(b"{}", 429, {"Retry-After": "99"}), "asked too often"),
            (Reply(b"no json"), "cannot be understood"),
            (Reply(b"[]"), "cannot be understood"),
            (Reply(b"[" * 100_000), "cannot be understood"),
        ],
    )
    def test_what_goes_wrong(self, start: Start, sites: Sites, reply: Reply, says: str) -> None:
        sites.at("http://search.example.org/search", reply)
        client = start(search={"provider": "searxng", "url": "http://search.example.org"})
        assert says in client.fault("search", query="x")

    def test_its_provider_is_not_a_page(self, start: Start, sites: Sites) -> None:
        client = start(search={"provider": "searxng", "url": "http://search.example.org"})
        before = len(sites.requests)
        for url in ("http://search.example.org/", "http://search.example.org/search?q=x"):
            assert "with the tool search" in client.fault("fetch", url=url)
        assert len(sites.requests) == before
