"""What every ``Sandbox`` must do, whatever is behind it: checks by name, for any back end.

A check takes a fresh sandbox that was opened with ``PROFILE``. ``needs`` names the parts of the
contract that it is about; a back end without a part (Monty has no commands) says so by
``SandboxError``, which is a check as well.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

from corral.errors import SandboxError
from corral.sandbox.contract import Command, Limits, Profile, Sandbox, Session, Snapshot

LIMIT = 40_000
PROFILE = Profile(env={"COLOUR": "blue"}, limits=Limits(output=LIMIT, processes=128))
OUTSIDE = ("../x", "/etc/passwd", "a/../../x", "..")

Open = Callable[[Snapshot], Awaitable[Sandbox]]


@dataclass(frozen=True)
class Check:
    """One check and the parts of the contract that it needs."""

    run: Callable[[Sandbox], Awaitable[None]]
    needs: frozenset[str]


CHECKS: dict[str, Check] = {}


def check(*needs: str) -> Callable[[Callable[[Sandbox], Awaitable[None]]], None]:
    def keep(run: Callable[[Sandbox], Awaitable[None]]) -> None:
        CHECKS[run.__name__] = Check(run, frozenset(needs))

    return keep


async def sh(sandbox: Sandbox, script: str) -> str:
    done = await sandbox.run(Command(("sh", "-c", script)))
    assert done.code == 0, done
    return done.stdout.decode()


async def refused(attempt: Awaitable[object]) -> None:
    with pytest.raises(SandboxError):
        await asyncio.wait_for(attempt, 10)


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what the sandbox does by itself."""
    async with asyncio.timeout(15):
        while not await condition():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)


def archive(*entries: tuple[str, bytes | None]) -> bytes:
    """A tar archive; no content makes a link to ``/etc``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))
    return buffer.getvalue()


# commands


@check("commands")
async def gives_output_and_exit_code(sandbox: Sandbox) -> None:
    done = await sandbox.run(Command(("sh", "-c", "echo out; echo err >&2; exit 3")))
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert (done.reason, done.dropped) == ("exited", 0)


@check("commands")
async def takes_arguments_as_they_are(sandbox: Sandbox) -> None:
    odd = ["two words", "$HOME", "'\"`", "*", "a\nb", "-n", ""]
    done = await sandbox.run(Command(("printf", "%s|", *odd)))
    assert done.stdout.decode() == "".join(f"{one}|" for one in odd)


@check("commands")
async def says_that_there_is_no_such_program(sandbox: Sandbox) -> None:
    done = await sandbox.run(Command(("no-such-program",)))
    assert done.code == 127


@check("commands")
async def gives_a_signal_as_a_shell_does(sandbox: Sandbox) -> None:
    done = await sandbox.run(Command(("sh", "-c", "kill -TERM $$")))
    assert done.code == 128 + 15


@check("commands")
async def feeds_standard_input(sandbox: Sandbox) -> None:
    text = b"".join(b"%d\n" % n for n in range(50_000))
    done = await sandbox.run(Command(("md5sum",), stdin=text))
    plain = await sandbox.run(Command(("sh", "-c", "seq 0 49999 | md5sum")))
    assert done.stdout == plain.stdout


@check("commands")
async def does_not_wait_for_input_that_never_comes(sandbox: Sandbox) -> None:
    done = await sandbox.run(Command(("cat",), timeout=10))
    assert (done.code, done.stdout) == (0, b"")


@check("commands")
async def ignores_input_that_nobody_reads(sandbox: Sandbox) -> None:
    done = await sandbox.run(Command(("true",), stdin=b"x" * 300_000))
    assert done.code == 0


@check("commands")
async def has_the_profiles_environment_and_the_commands(sandbox: Sandbox) -> None:
    command = Command(("sh", "-c", "echo $COLOUR $SIZE"), env={"SIZE": "big"})
    assert (await sandbox.run(command)).stdout == b"blue big\n"


@check("commands")
async def runs_where_it_is_told(sandbox: Sandbox) -> None:
    await sandbox.files.make_folder("deep/down")
    top = (await sh(sandbox, "pwd")).strip()
    command = Command(("pwd",), cwd=PurePosixPath(top, "deep/down"))
    assert (await sandbox.run(command)).stdout.decode().strip() == f"{top}/deep/down"


@check("commands")
async def keeps_head_and_tail_of_much_output(sandbox: Sandbox) -> None:
    done = await sandbox.run(Command(("sh", "-c", "echo first; seq 1 200000; echo last")))
    assert done.stdout.startswith(b"first\n1\n2\n")
    assert done.stdout.endswith(b"200000\nlast\n")
    assert len(done.stdout) <= LIMIT
    assert done.dropped == len("first\nlast\n") + len(
        "\n".join(map(str, range(1, 200_001)))
    ) + 1 - (len(done.stdout))


@check("commands")
async def ends_the_whole_tree_at_a_timeout(sandbox: Sandbox) -> None:
    beat = "(setsid sh -c 'trap \"\" TERM; while :; do date +%N > beat; sleep 0.02; done' &) ; "
    done = await sandbox.run(Command(("sh", "-c", f"{beat} sleep 60"), timeout=0.7))
    assert done.reason == "timeout"
    assert done.detail
    assert await _stands_still(sandbox, "beat")


@check("commands")
async def ends_a_command_that_is_cancelled(sandbox: Sandbox) -> None:
    script = "while :; do date +%N > beat; sleep 0.02; done"
    task = asyncio.ensure_future(sandbox.run(Command(("sh", "-c", script), timeout=None)))
    await soon(lambda: _is_there(sandbox, "beat"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _stands_still(sandbox, "beat")


@check("commands")
async def runs_commands_side_by_side(sandbox: Sandbox) -> None:
    first = sandbox.run(Command(("sh", "-c", "until [ -e go ]; do sleep 0.01; done; echo went")))
    second = sandbox.run(Command(("touch", "go")))
    done, _ = await asyncio.gather(first, second)
    assert done.stdout == b"went\n"


@check("commands")
async def hands_output_on_as_it_comes(sandbox: Sandbox) -> None:
    seen: list[tuple[str, bytes]] = []

    def took(name: str, data: bytes) -> None:
        seen.append((name, data))

    script = "echo a; until [ -e go ]; do sleep 0.01; done; echo b >&2"
    running = asyncio.ensure_future(sandbox.run(Command(("sh", "-c", script), output=took)))
    await soon(lambda: asyncio.sleep(0, bool(seen)))
    assert seen == [("stdout", b"a\n")]
    await sandbox.files.write("go", b"")
    await running
    assert seen[-1] == ("stderr", b"b\n")


@check("commands")
async def streams(sandbox: Sandbox) -> None:
    script = "echo a; until [ -e go ]; do sleep 0.01; done; seq 1 1000"
    async with sandbox.stream(Command(("sh", "-c", script))) as pieces:
        first = await anext(pieces)
        await sandbox.files.write("go", b"")
        rest = b"".join([piece async for piece in pieces])
    assert first == b"a\n"
    assert rest.endswith(b"\n1000\n")


@check("commands")
async def ends_a_stream_that_nobody_reads_on(sandbox: Sandbox) -> None:
    script = "while :; do date +%N > beat; echo tick; sleep 0.02; done"
    async with sandbox.stream(Command(("sh", "-c", script), timeout=None)) as pieces:
        assert await anext(pieces)
    assert await _stands_still(sandbox, "beat")


# files


@check("files")
async def writes_and_reads_files(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 1000
    await sandbox.files.write("data.bin", b"before")
    await sandbox.files.write("data.bin", data)
    assert await sandbox.files.read("data.bin") == data
    listed = await sandbox.files.listing()
    assert [(str(one.path), one.kind, one.size) for one in listed] == [
        ("data.bin", "file", len(data))
    ]


@check("files")
async def reads_no_more_than_it_may(sandbox: Sandbox) -> None:
    await sandbox.files.write("long", b"x" * 100_000)
    await refused(sandbox.files.read("long", limit=99_999))
    assert len(await sandbox.files.read("long", limit=100_000)) == 100_000


@check("files")
async def says_that_a_file_is_missing(sandbox: Sandbox) -> None:
    await refused(sandbox.files.read("none"))
    await refused(sandbox.files.remove("none"))
    await refused(sandbox.files.move("none", "other"))


@check("files")
async def stays_in_the_workspace(sandbox: Sandbox) -> None:
    await sandbox.files.write("own", b"")
    for path in OUTSIDE:
        await refused(sandbox.files.read(path))
        await refused(sandbox.files.write(path, b""))
        await refused(sandbox.files.remove(path))
        await refused(sandbox.files.listing(path))
        await refused(sandbox.files.make_folder(path))
        await refused(sandbox.files.move("own", path))
        await refused(sandbox.files.move(path, "x"))
    assert [str(one.path) for one in await sandbox.files.listing()] == ["own"]


@check("folders")
async def keeps_files_in_folders(sandbox: Sandbox) -> None:
    await sandbox.files.write("a/b/c.txt", b"hi")
    await sandbox.files.make_folder("a/empty")
    deep = {str(one.path): one.kind for one in await sandbox.files.listing(deep=True)}
    assert deep == {"a": "folder", "a/b": "folder", "a/b/c.txt": "file", "a/empty": "folder"}
    assert [str(one.path) for one in await sandbox.files.listing("a")] == ["a/b", "a/empty"]
    await sandbox.files.move("a/b", "d/e")
    assert await sandbox.files.read("d/e/c.txt") == b"hi"
    await sandbox.files.remove("d")
    assert [str(one.path) for one in await sandbox.files.listing(deep=True)] == ["a", "a/empty"]


@check("commands", "folders")
async def shares_files_with_commands(sandbox: Sandbox) -> None:
    await sandbox.files.write("in.txt", b"from outside")
    assert await sh(sandbox, "cat in.txt; echo from inside > out.txt") == "from outside"
    assert await sandbox.files.read("out.txt") == b"from inside\n"


@check("commands", "folders")
async def follows_no_links(sandbox: Sandbox) -> None:
    await sh(sandbox, "ln -s /etc away; ln -s /etc/passwd names; mkdir real; ln -s real near")
    for path in ("away/passwd", "names", "near/x"):
        await refused(sandbox.files.read(path))
        await refused(sandbox.files.write(f"{path}/x", b""))
    kinds = {str(one.path): one.kind for one in await sandbox.files.listing(deep=True)}
    assert kinds == {"away": "link", "names": "link", "near": "link", "real": "folder"}
    await sandbox.files.remove("away")
    assert await sh(sandbox, "ls") == "names\nnear\nreal\n"


@check("commands", "folders")
async def reads_nothing_but_files(sandbox: Sandbox) -> None:
    await sh(sandbox, "mkfifo pipe; mkdir folder")
    await refused(sandbox.files.read("pipe"))
    await refused(sandbox.files.read("folder"))


@check("folders")
async def unpacks_archives(sandbox: Sandbox) -> None:
    given = archive(("one.txt", b"1"), ("sub/two.txt", b"2"))
    assert await sandbox.files.put_archive(given, "into") >= 2
    assert await sandbox.files.read("into/sub/two.txt") == b"2"


@check("folders")
async def unpacks_nothing_of_a_bad_archive(sandbox: Sandbox) -> None:
    bad = (
        archive(("good", b"1"), ("../bad", b"2")),
        archive(("good", b"1"), ("/tmp/bad", b"2")),
        archive(("good", b"1"), ("link", None), ("link/bad", b"2")),
        b"no archive at all",
    )
    for given in bad:
        await refused(sandbox.files.put_archive(given))
    assert await sandbox.files.listing() == []


@check("commands", "folders")
async def packs_files_only(sandbox: Sandbox) -> None:
    await sh(sandbox, "mkdir d; echo hi > d/f; chmod 4755 d/f; ln -s /etc d/l; mkfifo d/p")
    packed = await sandbox.files.get_archive("d")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        found = {one.name: one.mode for one in tar if one.isfile()}
        others = [one.name for one in tar if not one.isfile() and not one.isdir()]
    assert (list(found), others) == (["f"], [])
    assert found["f"] & 0o7000 == 0


# code


@check("code")
async def runs_code_afresh(sandbox: Sandbox) -> None:
    first = await sandbox.run_code("x = 20\nprint('hello')\nx + 1")
    assert (first.status, first.stdout, first.value) == ("ok", "hello\n", "21")
    second = await sandbox.run_code("x")
    assert second.status == "error"
    assert second.error is not None
    assert "NameError" in second.error


@check("code")
async def stops_code_in_time(sandbox: Sandbox) -> None:
    done = await sandbox.run_code("while True: pass", seconds=0.3)
    assert done.status == "timeout"


@check("code")
async def keeps_state_in_a_session(sandbox: Sandbox) -> None:
    session, other = await sandbox.session(), await sandbox.session()
    await session.run("x = 1\ndef more():\n    return x + 1")
    assert (await session.run("more()")).value == "2"
    assert (await other.run("x")).status == "error"
    assert (await session.run("None")).value is None


@check("code")
async def shows_an_error_without_frames_of_its_own(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    done = await session.run("def f():\n    return 1 / 0\n\nprint('before')\nf()")
    assert (done.status, done.stdout, done.value) == ("error", "before\n", None)
    assert done.error is not None
    assert "ZeroDivisionError" in done.error
    assert done.error.count("File ") == 2
    assert (await session.run("1 +")).status == "error"


@check("code")
async def bounds_what_code_prints(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    done = await session.run("for n in range(30_000): print(n)")
    assert done.status == "ok"
    assert done.dropped > 0
    assert len(done.stdout) < LIMIT + 100
    assert done.stdout.startswith("0\n1\n")
    assert done.stdout.endswith("29998\n29999\n")


@check("code")
async def keeps_state_over_a_timeout(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    await session.run("x = 'kept'")
    done = await session.run("while True: pass", seconds=0.3)
    assert done.status == "timeout"
    assert (await session.run("x")).value == "'kept'"


@check("code")
async def keeps_state_over_an_interrupt(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    await session.run("x = 'kept'")
    done = await _interrupted(session, "print('go')\nwhile True: pass")
    assert done == "interrupted"
    assert (await session.run("x")).value == "'kept'"


@check("code")
async def restarts_clean(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    await session.run("x = 1")
    await session.restart()
    assert (await session.run("x")).status == "error"
    await session.aclose()
    await session.aclose()


@check("code")
async def has_one_call_at_a_time_in_a_session(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    await session.run("x = 0")
    calls = [session.run("x += 1\nx") for _ in range(5)]
    assert sorted([(await one).value or "" for one in calls]) == list("12345")


@check("processes")
async def says_that_a_session_crashed(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    await session.run("x = 1")
    done = await session.run("import os\nos._exit(3)")
    assert done.status == "crashed"
    assert done.note
    assert (await session.run("x")).status == "error"


@check("processes")
async def shows_rich_values(sandbox: Sandbox) -> None:
    code = "class T:\n    def _repr_html_(self):\n        return '<b>1</b>'\nT()"
    done = await (await sandbox.session()).run(code)
    assert [(one.mime, one.data) for one in done.displays] == [("text/html", "<b>1</b>")]


@check("processes", "folders")
async def shares_files_with_code(sandbox: Sandbox) -> None:
    await sandbox.files.write("in.txt", b"hi")
    session = await sandbox.session()
    done = await session.run("open('out.txt', 'w').write(open('in.txt').read() + '!')")
    assert done.value == "3"
    assert await sandbox.files.read("out.txt") == b"hi!"


@check("commands", "code")
async def keeps_state_in_a_shell(sandbox: Sandbox) -> None:
    shell = await sandbox.session("shell")
    await shell.run('mkdir -p here && cd here; WORD=kept; say() { echo "said $1"; }')
    done = await shell.run('basename "$PWD"; echo $WORD; say it; echo oh >&2')
    assert (done.stdout, done.stderr) == ("here\nkept\nsaid it\n", "oh\n")
    assert (done.status, done.value) == ("ok", "0")
    failed = await shell.run("false")
    assert (failed.status, failed.value) == ("error", "1")


@check("commands", "code")
async def keeps_a_shell_over_a_timeout(sandbox: Sandbox) -> None:
    shell = await sandbox.session("shell")
    await shell.run("WORD=kept")
    assert (await shell.run("sleep 60", seconds=0.3)).status == "timeout"
    assert (await shell.run("echo $WORD; cat")).stdout == "kept\n"


@check("commands", "code")
async def says_that_a_shell_has_ended(sandbox: Sandbox) -> None:
    shell = await sandbox.session("shell")
    done = await shell.run("WORD=lost; exit 3")
    assert done.status == "crashed"
    assert done.note
    assert (await shell.run('echo "[$WORD]"')).stdout == "[]\n"


# the whole sandbox


@check("pause")
async def stands_still_while_it_is_paused(sandbox: Sandbox) -> None:
    session = await sandbox.session()
    await session.run("x = 'kept'")
    script = "n=0; while :; do n=$((n+1)); echo $n > beat; sleep 0.01; done"
    counting = asyncio.ensure_future(sandbox.run(Command(("sh", "-c", script), timeout=None)))
    await soon(lambda: _is_there(sandbox, "beat"))
    await sandbox.pause()
    await refused(sandbox.run(Command(("true",))))
    await sandbox.resume()
    assert (await session.run("x")).value == "'kept'"
    first = await sandbox.files.read("beat")
    await soon(lambda: _differs(sandbox, "beat", first))
    counting.cancel()
    await asyncio.wait([counting])


@check()
async def ends_for_good(sandbox: Sandbox) -> None:
    await sandbox.stop()
    await sandbox.stop()
    await refused(sandbox.run(Command(("true",))))
    await refused(sandbox.run_code("1"))


async def _interrupted(session: Session, code: str) -> str:
    running = asyncio.ensure_future(session.run(code, seconds=30))
    while not running.done():  # it may not have begun when the first one comes
        await asyncio.sleep(0.1)
        await session.interrupt()
    return (await running).status


async def _is_there(sandbox: Sandbox, name: str) -> bool:
    return name in [str(one.path) for one in await sandbox.files.listing()]


async def _differs(sandbox: Sandbox, name: str, before: bytes) -> bool:
    return await sandbox.files.read(name) not in (before, b"")


async def _stands_still(sandbox: Sandbox, name: str) -> bool:
    """Whether nobody writes to a file that is written every 20 ms."""
    before = await sandbox.files.read(name)
    await sh(sandbox, "sleep 0.3")
    return await sandbox.files.read(name) == before


async def starts_from_a_snapshot(sandbox: Sandbox, open_from: Open) -> None:
    """Needs ``snapshot``; apart from ``CHECKS`` because it opens a second sandbox."""
    await sandbox.files.write("d/kept.txt", b"1")
    snapshot = await sandbox.snapshot()
    await sandbox.files.write("d/kept.txt", b"2")
    other = await open_from(snapshot)
    try:
        assert await other.files.read("d/kept.txt") == b"1"
        assert other.id != sandbox.id
    finally:
        await other.stop()
