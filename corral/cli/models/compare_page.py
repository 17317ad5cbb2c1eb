"""A comparison as one page of HTML, with every answer, that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from corral.errors import UsageError
from corral.evals.comparing import Answer, Comparison, Standing
from corral.evals.prompts import Prompt

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left }
pre { background: #f6f6f6; margin: .3rem 0; padding: .5rem; white-space: pre-wrap }
.bar { background: #4a7; display: inline-block; height: .7rem; margin-right: .4rem }
.bad { color: #a22 }
"""

_WIDEST_BAR = 120


def write_page(path: Path, found: Comparison, prompts: Sequence[Prompt]) -> None:
    """Write the page. Raises ``UsageError`` when the file cannot be written."""
    try:
        path.write_text(page(found, prompts), encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"The page cannot be written to {path}: {error.strerror}.",
            hint="Name a file in a folder that exists and is yours.",
        ) from error


def page(found: Comparison, prompts: Sequence[Prompt]) -> str:
    """The page's text. Whatever models have said is escaped, and no script can run."""
    body = "".join([*_summary(found), *(part for one in prompts for part in _answers(one, found))])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>Models compared</title><style>{_STYLE}</style></head>"
        f"<body><h1>Models compared</h1>{body}</body></html>\n"
    )


def _summary(found: Comparison) -> Iterator[str]:
    if found.interrupted:
        yield f"<p class=bad>Interrupted: {len(found.answers)} of {found.planned} answers.</p>"
    names = ("quality", "tokens/s", "first token", "in", "cached", "out", "cost", "errors")
    head = "".join(f"<th>{name}</th>" for name in names)
    yield f"<table><tr><th>model</th>{head}</tr>"
    standings = found.standings()
    fastest = max((one.tokens_per_second or 0 for one in standings), default=0) or 1
    for one in standings:
        yield _row(one, fastest)
    yield "</table>"


def _row(one: Standing, fastest: float) -> str:
    quality = "" if one.quality is None else f"{_bar(one.quality)}{one.quality:.0%}"
    speed = one.tokens_per_second
    cells = (
        quality,
        "" if speed is None else f"{_bar(speed / fastest)}{speed:,.1f}",
        "" if one.first_token_ms is None else f"{one.first_token_ms:,.0f} ms",
        f"{one.input_tokens:,}",
        f"{one.cached_tokens:,}",
        f"{one.output_tokens:,}",
        f"${one.cost_usd:.4f}",
        str(one.errors),
    )
    made = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><td>{escape(one.model)}</td>{made}</tr>"


def _bar(share: float) -> str:
    return f'<span class=bar style="width:{round(share * _WIDEST_BAR)}px"></span>'


def _answers(prompt: Prompt, found: Comparison) -> Iterator[str]:
    yield f"<h2>{escape(prompt.id)}</h2><pre>{escape(prompt.prompt)}</pre>"
    for answer in found.answers:
        if answer.prompt == prompt.id:
            yield f"<h3>{escape(answer.model)}</h3>{_said(answer)}"


def _said(answer: Answer) -> str:
    if answer.error is not None:
        return f"<p class=bad>{escape(answer.error)}</p>"
    failed = "".join(f"<li>{escape(why)}</li>" for why in answer.failed_checks)
    problems = f"<ul class=bad>{failed}</ul>" if failed else ""
    return f"<pre>{escape(answer.output)}</pre>{problems}"
