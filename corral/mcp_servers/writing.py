"""Write text files: whole or not at all, and on the disk before the answer."""

from __future__ import annotations

import os

from corral.mcp_servers.beneath import Place, Roots, check_regular, open_regular
from corral.mcp_servers.tool import Answer, Call, ToolFault

_MAX_EDIT = 8 * 1024 * 1024
_MAX_DIFF = 20_000
_PERMISSIONS = 0o777


def write_file(roots: Roots, call: Call) -> Answer:
    """The tool ``write_file``."""
    data = _encoded(call.text("content"))
    with roots.at(call.text("path"), write=True, create=True) as place:
        if place.name == ".":
            raise ToolFault(f"{place.shown} is a folder, not a file.")
        created = _replace(place, data)
        verb = "Created" if created else "Replaced"
        return Answer(
            f"{verb} {place.shown}: {len(data)} bytes.",
            {"path": place.shown, "bytes": len(data), "created": created},
        )


def edit_file(roots: Roots, call: Call) -> Answer:
    """The tool ``edit_file``."""
    old, new = call.text("old"), call.text("new")
    if old == new:
        raise ToolFault("The old and the new text are the same; nothing was changed.")
    with roots.at(call.text("path"), write=True) as place:
        before = _whole_text(place)
        count = before.count(old)
        if count == 0:
            raise ToolFault(_not_found(place.shown, before, old))
        if count > 1:
            where = ", ".join(str(line) for line in _lines_of(before, old))
            raise ToolFault(
                f"The old text occurs {count} times in {place.shown} (lines {where}). "
                "Give more of what is around it, so that it is found once."
            )
        after = before.replace(old, new)
        _replace(place, _encoded(after))
        diff = _diff(place.shown, before, after)
        return Answer(f"Edited {place.shown}:\n{diff}", {"path": place.shown, "diff": diff})


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolFault("The text holds half of a character (a lone surrogate).") from error


def _whole_text(place: Place) -> str:
    with os.fdopen(open_regular(place), "rb") as file:
        data = file.read(_MAX_EDIT + 1)
    if len(data) > _MAX_EDIT:
        raise ToolFault(f"{place.shown} is larger than {_MAX_EDIT} bytes; it cannot be edited.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ToolFault(f"{place.shown} is not UTF-8 text; it cannot be edited.") from error


def _replace(place: Place, data: bytes) -> bool:
    """Put a file in place by renaming; whether it is new. An old one's permissions stay."""
    status = check_regular(place, missing_ok=True)
    temporary = f".{place.name[:100]}.{os.urandom(6).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o666, dir_fd=place.folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if status is not None:
                os.fchmod(file.fileno(), status.st_mode & _PERMISSIONS)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    except BaseException:
        os.unlink(temporary, dir_fd=place.folder)
        raise
    os.fsync(place.folder)
    return status is None


def _lines_of(text: str, part: str) -> list[int]:
    """The line numbers at which a part occurs, the first ten."""
    lines: list[int] = []
    at = text.find(part)
    while at >= 0 and len(lines) < 10:
        lines.append(text.count("\n", 0, at) + 1)
        at = text.find(part, at + len(part))
    return lines


def _not_found(shown: str, text: str, old: str) -> str:
    import difflib  # only an edit needs it

    message = f"The old text does not occur in {shown}; nothing was changed."
    if "\r\n" in text and "\r" not in old and old in text.replace("\r\n", "\n"):
        return f"{message} The file ends its lines with CR LF: put \\r\\n into the old text."
    wanted = next((line for line in old.splitlines() if line.strip()), "")
    lines = text.splitlines()[:5000]
    near = difflib.get_close_matches(wanted, [line for line in lines if line.strip()], n=1)
    if not near:
        return f"{message} Read the file and copy the passage exactly."
    number = lines.index(near[0]) + 1
    return f"{message} Nearest is line {number}: {near[0][:200]!r}. Spaces count."


def _diff(shown: str, before: str, after: str) -> str:
    import difflib  # only an edit needs it

    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{shown}", f"b/{shown}", lineterm=""
    )
    text = "\n".join(lines)
    return text if len(text) <= _MAX_DIFF else text[:_MAX_DIFF] + "\n[the diff goes on]"
