"""Where the web server goes, and where it does not, whoever sends it there."""

from __future__ import annotations

import itertools

import pytest

from tests.mcp_servers.client import RawClient
from tests.mcp_servers.web.conftest import Start
from tests.mcp_servers.web.site import Reply, Request, Sites, html, redirect

AT = "http://docs.example.com"


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("file:///etc/passwd", "file: is not a scheme"),
            ("data:text/html,hello", "data: is not a scheme"),
            ("javascript:alert(1)", "javascript: is not a scheme"),
            ("ftp://example.com/", "ftp: is not a scheme"),
            ("docs.example.com/a", "There is no scheme"),
            ("http://ann:secret@docs.example.com/", "user name or password"),
            ("http://docs.example.com@evil.example/", "user name or password"),
            ("http://docs.example.com\\@evil.example/", "backslash"),
            ("http://docs.example.com/a b", "a space"),
            ("http://docs.example.com/\u200b", "control character"),
            ("http://docs.example.com:0/", "Port 0"),
            ("http://docs.example.com:99999/", "cannot be read"),
            ("http://2130706433/", "odd spelling"),
            ("http://0x7f.1/", "odd spelling"),
            ("http://0177.0.0.1/", "odd spelling"),
            ("http://127.1/", "odd spelling"),
            ("http://[::ffff:127.0.0.1]/", "odd form"),
            ("http://[fe80::1%25eth0]/", "odd form"),
            ("http://[::1/", "cannot be read"),
            ("http:///path", "not the name of a host"),
            ("http://doc%73.example.com/", "not the name of a host"),
            ("http://docs..example.com/", "not the name of a host"),
            ("http://" + "a" * 9000, "longer than 8000"),
        ],
    )
    def test_what_is_no_plain_address(
        self, web: RawClient, sites: Sites, url: str, says: str
    ) -> None:
        before = len(sites.requests)
        answer = web.fault("fetch", url=url)
        assert says in answer
        assert "secret" not in answer
        assert len(sites.requests) == before

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "http://localhost/",
            "http://[::1]/",
            "http://10.0.0.8/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/",
            "http://printer/",
            "http://wiki.internal/",
            "http://100.64.0.1/",
        ],
    )
    def test_the_own_network_is_not_part_of_the_web(
        self, web: RawClient, sites: Sites, url: str
    ) -> None:
        before = len(sites.requests)
        assert "private = [" in web.fault("fetch", url=url)
        assert len(sites.requests) == before

    @pytest.mark.parametrize(
        ("url", "asked"),
        [
            ("HTTP://Docs.Example.COM./a", f"{AT}/a"),
            (f"{AT}/a/../b/./c#part", f"{AT}/b/c"),
            (f"{AT}/%2e%2e/%2E/x/..", f"{AT}/"),
            (f"{AT}//two", f"{AT}//two"),
            (f"{AT}/ä?q=ö&r=1", f"{AT}/%C3%A4?q=%C3%B6&r=1"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://docs.example.com", f"{AT}/"),
        ],
    )
    def test_addresses_are_put_into_one_form(
        self, web: RawClient, sites: Sites, url: str, asked: str
    ) -> None:
        sites.at(asked.partition("?")[0], "<p>here")
        web.text("fetch", url=url)
        assert sites.asked()[-1] == asked

    def test_it_says_who_it_is_and_never_more(self, web: RawClient, sites: Sites) -> None:
        sites.at(f"{AT}/cookie", html("<p>c", Set_Cookie="id=1"))
        web.text("fetch", url=f"{AT}/cookie")
        web.text("fetch", url=f"{AT}/cookie")
        headers = sites.requests[-1].headers
        assert headers["user-agent"] == "Corral/1.2.3"
        assert not {"cookie", "authorization", "referer"} & headers.keys()
        assert {one.method for one in sites.requests} == {"GET"}


class TestWhatIsAllowed:
    def test_nothing_unless_it_is_named(self, start: Start, sites: Sites) -> None:
        before = len(sites.requests)
        none = start(rules=[])
        says = none.fault("fetch", url="https://docs.python.org/3/")
        assert '[web]\nallow = ["docs.python.org"]' in says
        assert 'allow = ["example.org:8080"]' in none.fault("fetch", url="http://example.org:8080/")
        assert 'private = ["localhost:8000"]' in none.fault("fetch", url="http://localhost:8000/")
        assert len(sites.requests) == before

    def test_hosts_and_all_below_them(self, start: Start, sites: Sites) -> None:
        rules = [["docs.example.com", [80, 443], False], ["*.wiki.example", [80], False]]
        some = start(rules=rules)
        for host in ("docs.example.com", "en.wiki.example", "a.b.wiki.example"):
            sites.at(f"http://{host}/here", "<p>here")
            some.text("fetch", url=f"http://{host}/here")
        for url in (
            "http://example.com/here",
            "http://wiki.example/here",
            "http://evilwiki.example/here",
            "https://en.wiki.example/here",
            "http://docs.example.com.evil.example/here",
        ):
            says = some.fault("fetch", url=url)
            assert 'allow = ["docs.example.com", "*.wiki.example", ' in says

    def test_without_a_proxy_there_is_no_way_out(
        self, start: Start, sites: Sites, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HTTP_PROXY")
        assert "only through Corral's proxy" in start().fault("fetch", url=f"{AT}/a")

    def test_it_starts_without_its_libraries(self, start: Start) -> None:
        bare = start(packages=["/nowhere"])
        assert len(bare.request("tools/list")["result"]["tools"]) == 3
        assert "ModuleNotFoundError" in bare.fault("fetch", url=f"{AT}/a")

    def test_tools_are_declared_truly(self, web: RawClient) -> None:
        tools = {one["name"]: one for one in web.request("tools/list")["result"]["tools"]}
        assert set(tools) == {"fetch", "links", "download"}
        assert all(tool["annotations"]["openWorldHint"] for tool in tools.values())
        reads = {name for name, tool in tools.items() if tool["annotations"]["readOnlyHint"]}
        assert reads == {"fetch", "links"}


class TestRedirects:
    def test_they_are_followed_and_told(self, web: RawClient, sites: Sites) -> None:
        sites.at("http://old.example.com/a", redirect("//docs.example.com/b", 301))
        sites.at(f"{AT}/b", redirect("c?x=1", 308))
        sites.at(f"{AT}/c", "<p>there")
        text = web.text("fetch", url="http://old.example.com/a")
        assert text.startswith(
            f"http://old.example.com/a leads to {AT}/b (another host)\n{AT}/b leads to {AT}/c?x=1\n"
        )

    def test_those_in_the_page_as_well(self, web: RawClient, sites: Sites) -> None:
        refresh = '<meta http-equiv="Refresh" content="0; URL=\'/at-last\'">'
        sites.at(f"{AT}/meta", f"<html><head>{refresh}</head><body>moved</body></html>")
        sites.at(f"{AT}/at-last", "<p>at last")
        text = web.text("fetch", url=f"{AT}/meta")
        assert f"{AT}/meta leads to {AT}/at-last" in text
        assert "at last" in text

    @pytest.mark.parametrize("content", ["0", "600; url=/other", "0; url=/own"])
    def test_a_page_that_loads_itself_anew_stays(
        self, web: RawClient, sites: Sites, content: str
    ) -> None:
        sites.at(f"{AT}/own", f'<meta http-equiv=refresh content="{content}"><p>stays')
        assert "stays" in web.text("fetch", url=f"{AT}/own")

    @pytest.mark.parametrize(
        ("location", "says"),
        [
            ("http://127.0.0.1:8000/", "127.0.0.1:8000 was not visited"),
            ("http://169.254.169.254/latest/", "169.254.169.254:80 was not visited"),
            ("http://2130706433/", "odd spelling"),
            ("file:///etc/passwd", "file: is not a scheme"),
            ("data:text/html,x", "data: is not a scheme"),
            ("http://user:pw@docs.example.com/", "user name or password"),
            ("http://docs.example.com:22/", "docs.example.com:22 was not visited"),
        ],
    )
    @pytest.mark.parametrize("way", ["header", "page"])
    def test_none_leads_where_nobody_may_go(
        self, web: RawClient, sites: Sites, location: str, says: str, way: str
    ) -> None:
        page = f'<meta http-equiv=refresh content="0;url={location}">'
        sites.at(f"{AT}/jump", redirect(location) if way == "header" else page)
        before = len(sites.requests)
        answer = web.fault("fetch", url=f"{AT}/jump")
        assert f"{AT}/jump leads" in answer
        assert says in answer
        assert {one.host for one in sites.requests[before:]} == {"docs.example.com"}

    @pytest.mark.parametrize(
        ("location", "says"),
        [("/itself", "a loop of redirects"), ("gopher://[", "cannot be read"), ("", "a loop")],
    )
    def test_headers_that_lead_nowhere(
        self, web: RawClient, sites: Sites, location: str, says: str
    ) -> None:
        sites.at(f"{AT}/itself", redirect(location))
        assert says in web.fault("fetch", url=f"{AT}/itself")

    def test_a_circle_is_a_loop(self, web: RawClient, sites: Sites) -> None:
        sites.at(f"{AT}/ping", redirect("/pong"))
        sites.at(f"{AT}/pong", '<meta http-equiv=refresh content="0;url=/ping">')
        assert "loop of redirects" in web.fault("fetch", url=f"{AT}/ping")

    def test_they_end(self, web: RawClient, sites: Sites) -> None:
        numbers = itertools.count(1)
        sites.at(f"{AT}/more", lambda _: redirect(f"/more?{next(numbers)}"))
        assert "given up after 10 redirects" in web.fault("fetch", url=f"{AT}/more")
        assert next(numbers) == 12

    def test_none_leads_into_the_own_network_even_where_that_is_allowed(
        self, start: Start, sites: Sites
    ) -> None:
        some = start(rules=[["*", [80], False], ["wiki.internal", [80], True]])
        sites.at("http://wiki.internal/secret", "<p>secret")
        sites.at("http://wiki.internal/moved", redirect("/secret"))
        sites.at(f"{AT}/in", redirect("http://wiki.internal/secret"))
        assert "leads into the own network" in some.fault("fetch", url=f"{AT}/in")
        assert "secret" in some.text("fetch", url="http://wiki.internal/moved")


class TestRobots:
    def test_what_it_forbids_is_not_visited(self, web: RawClient, sites: Sites) -> None:
        rules = b"User-agent: *\nDisallow: /a\n\nUser-agent: corral\nDisallow: /private\n"
        sites.at("http://robots.example.com/robots.txt", rules)
        for path in ("/a", "/private/x"):
            sites.at(f"http://robots.example.com{path}", "<p>page")
        web.text("fetch", url="http://robots.example.com/a")
        for tool in ("fetch", "links", "download"):
            says = web.fault(tool, url="http://robots.example.com/private/x")
            assert "robots.txt of robots.example.com forbids it" in says
            assert "robots = false" in says
        sites.at(f"{AT}/to-private", redirect("http://robots.example.com/private/x"))
        assert "forbids it" in web.fault("fetch", url=f"{AT}/to-private")
        asked = [url for url in sites.asked(robots=True) if "robots.example.com" in url]
        assert asked == [f"http://robots.example.com{path}" for path in ("/robots.txt", "/a")]

    def test_the_user_can_have_it_ignored(self, start: Start, sites: Sites) -> None:
        sites.at("http://no.example.com/robots.txt", b"User-agent: *\nDisallow: /\n")
        sites.at("http://no.example.com/a", "<p>page")
        start(robots=False).text("fetch", url="http://no.example.com/a")
        assert "http://no.example.com/robots.txt" not in sites.asked(robots=True)

    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_a_site_that_fails_to_say_is_left_alone(
        self, web: RawClient, sites: Sites, status: int
    ) -> None:
        host = f"http://fails{status}.example.com"
        busy = Reply(status=status, headers={"Retry-After": "0"})
        sites.at(f"{host}/robots.txt", busy)
        sites.at(f"{host}/a", "<p>page")
        says = web.fault("fetch", url=f"{host}/a")
        assert f"answered {status}" in says
        assert says.endswith("under [web] in their own configuration file.")  # not a project's

    def test_it_may_be_elsewhere(self, web: RawClient, sites: Sites) -> None:
        sites.at("http://moved.example.com/robots.txt", redirect(f"{AT}/central.txt"))
        sites.at(f"{AT}/central.txt", b"User-agent: *\nDisallow: /\n")
        assert "forbids it" in web.fault("fetch", url="http://moved.example.com/a")

    def test_hostile_rules_cost_no_time(self, web: RawClient, sites: Sites) -> None:
        rules = "User-agent: *\nDisallow: /" + "*a" * 20_000 + "$\n"
        sites.at("http://stars.example.com/robots.txt", rules.encode() * 10)
        sites.at("http://stars.example.com/" + "a" * 5000, "<p>page")
        web.text("fetch", url="http://stars.example.com/" + "a" * 5000, timeout=10)


class TestBusySites:
    def test_it_asks_again_when_that_is_wanted_soon(self, web: RawClient, sites: Sites) -> None:
        replies = iter([Reply(status=429, headers={"Retry-After": "0"}), html("<p>now")])
        sites.at(f"{AT}/busy", lambda _: next(replies))
        assert "now" in web.text("fetch", url=f"{AT}/busy")

    def test_not_more_than_twice(self, web: RawClient, sites: Sites) -> None:
        sites.at(f"{AT}/always", Reply(status=503, headers={"Retry-After": "0"}))
        assert "answered 503 Service Unavailable" in web.fault("fetch", url=f"{AT}/always")
        assert sites.asked().count(f"{AT}/always") == 3

    @pytest.mark.parametrize("wait", ["3600", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 5000])
    def test_a_long_wait_is_told_instead(self, web: RawClient, sites: Sites, wait: str) -> None:
        sites.at(f"{AT}/later", Reply(status=503, headers={"Retry-After": wait}))
        assert f"It asks to wait: {wait[:20]}" in web.fault("fetch", url=f"{AT}/later")


class TestCache:
    def test_what_is_new_is_not_asked_for(self, web: RawClient, sites: Sites) -> None:
        sites.at(f"{AT}/fresh", html("<p>fresh", Cache_Control="max-age=600"))
        for _ in range(3):
            web.text("fetch", url=f"{AT}/fresh")
        assert sites.asked().count(f"{AT}/fresh") == 1

    def test_what_may_be_old_is_asked_for_only_if_changed(
        self, web: RawClient, sites: Sites
    ) -> None:
        def tagged(request: Request) -> Reply:
            if request.headers.get("if-none-match") == '"1"':
                return Reply(status=304)
            return html("<p>tagged", ETag='"1"')

        sites.at(f"{AT}/tagged", tagged)
        for _ in range(2):
            assert "tagged" in web.text("fetch", url=f"{AT}/tagged")
        assert sites.requests[-1].headers["if-none-match"] == '"1"'

    @pytest.mark.parametrize("control", ["no-store, max-age=600", "no-cache, max-age=600", ""])
    def test_what_may_not_be_kept_is_not(self, web: RawClient, sites: Sites, control: str) -> None:
        versions = itertools.count()
        sites.at(f"{AT}/anew", lambda _: html(f"<p>v{next(versions)}", Cache_Control=control))
        texts = [web.text("fetch", url=f"{AT}/anew") for _ in range(2)]
        assert "v0" in texts[0]
        assert "v1" in texts[1]
