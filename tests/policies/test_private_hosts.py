"""What is fetched from the own network is for nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corral.policies.facts import ToolCall
from corral.policies.layers import Layered
from corral.policies.provenance.labels import Label
from corral.policies.provenance.sources import Result, result_label
from corral.policies.rules import Policy

FETCH = ToolCall(
    name="web__fetch",
    args={"url": "https://wiki.example.com/plan"},
    read_only=True,
    sandboxed=True,
    workspace="/work",
    network=True,
)


def label(call: ToolCall, *hosts: str) -> Label:
    policy = replace(Layered.of(Policy("mine")), private_hosts=hosts)
    return result_label(call, Result("a plan"), policy.sources)


def test_a_page_of_the_web_is_for_everybody() -> None:
    assert not label(FETCH).private
    assert not label(FETCH, "other.example.com").private


@pytest.mark.parametrize("host", ["wiki.example.com", "*.example.com"])
@pytest.mark.parametrize("tool", ["web__fetch", "web__links"])
def test_one_of_the_own_network_is_not(host: str, tool: str) -> None:
    found = label(replace(FETCH, name=tool), "other.example.com", host)
    assert found.private
    assert found.confidential
    assert found.untrusted


@pytest.mark.parametrize(
    "url",
    ["https://WIKI.example.com:8443/", "http://x@wiki.example.com/", "http://wiki.example.com.\\"],
)
def test_however_it_is_spelled(url: str) -> None:
    assert label(replace(FETCH, args={"url": url}), "wiki.example.com").private
