"""What a value or a plot looks like beyond its text: images and tables, in bounded size.

The libraries that these come from are never imported here; they are used if the code has.
"""

from __future__ import annotations

import sys
from binascii import b2a_base64
from typing import Any

Display = tuple[str, str]
"""A MIME type and the content, base64 where that is binary."""

MAX_ROWS, MAX_COLUMNS = 50, 20
_MAX_CELL = 200
_MAX_TEXT = 65_536
_MAX_IMAGE = 2 * 1024 * 1024
_MAX_FIGURES = 8
_RESOLUTIONS = (100, 50)  # dots per inch, the second for what is too large in the first
_METHODS = (("_repr_html_", "text/html"), ("_repr_markdown_", "text/markdown"))


def displays_of(value: object) -> list[Display]:
    """The rich forms of a value; none for most. Raises what the value's own methods raise."""
    table = _table(value)
    if table:
        return [("text/markdown", table)]
    image = _form(value, "_repr_png_")
    if isinstance(image, bytes) and len(image) <= _MAX_IMAGE:
        return [("image/png", b2a_base64(image, newline=False).decode())]
    for method, mime in _METHODS:
        text = _form(value, method)
        if isinstance(text, str):
            return [(mime, _cut(text, _MAX_TEXT))]
    return []


def figures() -> list[Display]:
    """Every figure that matplotlib holds open, as a PNG; they are closed afterwards."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    numbers = pyplot.get_fignums() if pyplot is not None else []
    if pyplot is None or not numbers:
        return []
    found = [_picture(pyplot.figure(number)) for number in numbers[:_MAX_FIGURES]]
    pyplot.close("all")
    return [display for display in found if display is not None]


def _picture(figure: Any) -> Display | None:
    import io  # only code that plots pays for it

    for resolution in _RESOLUTIONS:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=resolution, bbox_inches="tight")
        if buffer.tell() <= _MAX_IMAGE:
            return "image/png", b2a_base64(buffer.getvalue(), newline=False).decode()
    return None


def _form(value: object, method: str) -> object:
    # On the type: an instance that answers to every name is no display.
    form = getattr(type(value), method, None)
    return form(value) if callable(form) else None


def _table(value: Any) -> str:
    """A pandas DataFrame or Series as a Markdown table of its first rows and columns."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return ""
    if isinstance(value, pandas.Series):
        value = value.to_frame()
    if not isinstance(value, pandas.DataFrame):
        return ""
    rows, columns = value.shape
    shown = value.iloc[:MAX_ROWS, :MAX_COLUMNS]
    lines = [_line(["", *shown.columns]), _line(["---"] * (shown.shape[1] + 1), raw=True)]
    lines += [_line([index, *row]) for index, row in zip(shown.index, _rows(shown), strict=True)]
    if shown.shape != value.shape:
        lines += [
            "",
            f"[the first {shown.shape[0]} of {rows} rows, {shown.shape[1]} of {columns} columns]",
        ]
    return _cut("\n".join(lines), _MAX_TEXT)


def _rows(frame: Any) -> Any:
    # By column, since a row across columns would turn integers into floats.
    return zip(*(frame.iloc[:, place] for place in range(frame.shape[1])), strict=True)


def _line(cells: list[Any], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else _cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace("|", "\\|")
    return _cut(" ".join(text.split()), _MAX_CELL)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}[{len(text) - most} characters left out]"
