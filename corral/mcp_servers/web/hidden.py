"""Takes out of a page what its readers do not see: a model is told what they are told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_NEVER_SEEN = frozenset(
    {"script", "style", "template", "noscript", "iframe", "frame", "object", "embed", "applet"}
    | {"svg", "canvas", "audio", "video", "dialog", "datalist"}
)
_ZERO = r"(?:0+\.?0*|\.0+)"
_FAR_AWAY = r"-(?:9\d\d|\d{4,})(?:\.\d+)?[a-z]*"
_HIDING = {
    name: re.compile(value)
    for name, value in {
        "display": "none",
        "visibility": "hidden|collapse",
        "content-visibility": "hidden",
        "opacity": f"{_ZERO}%?",
        "font-size": f"{_ZERO}[a-z%]*|0?\\.\\d+px|1px",
        "color": f"transparent|rgba\\([^)]*,{_ZERO}\\)",
        "clip": r"rect\((?:0|1px).*",
        "clip-path": r"inset\((?:50|100)%.*|circle\(0.*",
        "transform": r"scale[xy]?\(0\).*",
        **dict.fromkeys(("left", "right", "top", "bottom"), _FAR_AWAY),
        **dict.fromkeys(("text-indent", "margin-left", "margin-top"), _FAR_AWAY),
    }.items()
}
"""Values that hide an element, by the property's name; spaces are taken out before."""

_NO_SIZE = re.compile(r"[01](?:px)?")
_SIZES = ("width", "height", "max-width", "max-height")
_SPACES = re.compile(r"\s+")
_SIMPLE = re.compile(r"[a-z0-9]*([.#])([\w-]+)", re.IGNORECASE)
_MAX_CSS = 1 << 20
_MARK = "corral-hidden"


class _Named(NamedTuple):
    """Classes and ids that a page's own style sheets hide."""

    classes: frozenset[str]
    ids: frozenset[str]


def drop_hidden(root: HtmlElement) -> None:
    """Remove comments, scripts and every element that is not shown, with all that is in it."""
    import lxml.etree

    named = _hidden_by_sheets(root)
    for node in root.iter(lxml.etree.Element):
        if node is not root and _is_hidden(node, named):
            node.tag = _MARK
    # All at once: taking them out one by one would copy what follows them again and again.
    unseen = (_MARK, lxml.etree.Comment, lxml.etree.ProcessingInstruction)
    lxml.etree.strip_elements(root, *unseen, with_tail=False)


def _is_hidden(node: HtmlElement, named: _Named) -> bool:
    if node.tag in _NEVER_SEEN or "hidden" in node.attrib:
        return not (node.tag == "dialog" and "open" in node.attrib)
    if node.tag == "input" and node.get("type", "").lower() == "hidden":
        return True
    if node.get("id") in named.ids or not named.classes.isdisjoint(node.get("class", "").split()):
        return True
    style = node.get("style")
    return style is not None and hides(style)


def hides(style: str) -> bool:
    """Whether the declarations of a style hide what they are for."""
    plain = _SPACES.sub("", _without_comments(style)).lower().replace("!important", "")
    parts = (one.partition(":") for one in plain.split(";"))
    said = {name: value for name, _, value in parts}
    if any(name in _HIDING and _HIDING[name].fullmatch(value) for name, value in said.items()):
        return True
    is_cut = said.get("overflow") in ("hidden", "clip")
    return is_cut and any(_NO_SIZE.fullmatch(said.get(name, "")) for name in _SIZES)


def _without_comments(css: str) -> str:
    first, *rest = css.split("/*")
    return first + "".join(part.partition("*/")[2] for part in rest)


def _hidden_by_sheets(root: HtmlElement) -> _Named:
    """What the ``<style>`` elements hide by a class or an id alone, on every screen."""
    found: dict[str, set[str]] = {".": set(), "#": set()}
    sheets = "\n".join(node.text or "" for node in root.iter("style"))[:_MAX_CSS]
    for rule in _without_comments(sheets).split("}"):
        selectors, _, style = rule.rpartition("{")
        if "@" in selectors or not hides(style):
            continue
        for selector in selectors.split(","):
            simple = _SIMPLE.fullmatch(selector.strip())
            if simple:
                found[simple[1]].add(simple[2])
    return _Named(frozenset(found["."]), frozenset(found["#"]))
