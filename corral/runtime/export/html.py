"""A run as one HTML file: it needs no network and no scripts, and nothing in it can run.

All that a model, a tool or a person said is text in it: escaped by the template, with control and
bidirectional characters written out, and long texts cut so that the page opens whatever the run
did. The page's policy (CSP) lets its own style and its own script in, by their digests, and nothing
else.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any

from corral.runtime.critical_path import CriticalPath, critical_path
from corral.runtime.export.html_effects import EffectItem, effect_items
from corral.runtime.export.html_figures import figures, shares
from corral.runtime.export.html_talk import talk
from corral.runtime.export.html_text import duration, headline, moment, visible
from corral.runtime.export.html_timeline import timeline
from corral.runtime.views import Approval, EffectView, RunView
from corral.version import VERSION

if TYPE_CHECKING:
    from jinja2 import Template


def render_html(run: RunView, effects: Sequence[EffectView], approvals: Sequence[Approval]) -> str:
    """The page of a run: its figures, timeline, conversation and every effect, as HTML 5.

    ``effects`` are what ``Records.trace`` gives, ``approvals`` all questions of the run. The page
    has at most some 30 MB, however much the run holds; what is left out is counted in it.
    """
    own = [effect for effect in effects if effect.run in ("", run.run)]
    way = critical_path(own, since=run.started_at, until=run.finished_at)
    questions = {asked.path: asked for asked in approvals}
    items = effect_items(run, effects, questions, way)
    return _template().render(
        run=run,
        title=headline(run.prompt),
        figures=figures(run, effects, way),
        shares=shares(way),
        timeline=timeline(own, way),
        talk=talk(run, effects, questions),
        effects=items,
        kinds=_counted(items, "kind"),
        statuses=_counted(items, "status"),
        shared=len(effects) - len(own),
        critical=_steps(way, items),
        version=VERSION,
        style_hash=_hash(_part("page.css")),
        script_hash=_hash(_part("page.js")),
    )


def _counted(items: Sequence[EffectItem], field: str) -> list[tuple[str, int]]:
    return list(Counter(str(getattr(item, field)) for item in items).items())


def _steps(way: CriticalPath, items: Sequence[EffectItem]) -> list[EffectItem]:
    """The effects that took most of the time that mattered, the longest first."""
    took = {segment.seq: 0.0 for segment in way.segments}
    for segment in way.segments:
        took[segment.seq] += segment.ms
    by_seq = {item.seq: item for item in items}
    longest = sorted((seq for seq in took if seq in by_seq), key=lambda seq: -took[seq])
    return [replace(by_seq[seq], took=duration(took[seq])) for seq in longest[:5] if seq]


@lru_cache(maxsize=8)
def _part(name: str) -> str:
    folder = resources.files("corral.runtime.export") / "page"
    return (folder / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return visible(value) if is_text else value

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = moment
    # Ours, and no part of the run.
    environment.globals["style"] = Markup(_part("page.css"))  # noqa: S704  our own file
    environment.globals["script"] = Markup(_part("page.js"))  # noqa: S704  our own file
    return environment.from_string(_part("page.html"))
