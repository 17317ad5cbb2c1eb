"""Saved states: which one is found, what is kept under a budget, what a bad file does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral.runtime.models.contract import Adapter
from corral.runtime.models.local.states import disk, file
from corral.runtime.models.local.states.held import Held, token_bytes
from corral.runtime.models.local.states.prefixes import PrefixIndex
from corral.runtime.models.local.states.removal import (
    keep_threads,
    remove_threads,
    state_files,
    states_folder,
    taken,
)
from corral.runtime.models.local.states.store import StateOptions, StateStore

MODEL = b"m" * 32
OTHER = b"o" * 32
MB = 2**20

Opener = Callable[..., StateStore]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return states_folder(tmp_path)


@pytest.fixture
def opened(folder: Path) -> Iterator[Opener]:
    """Opens stores on one folder, as processes do."""
    stores: list[StateStore] = []

    def make(
        *, identity: bytes = MODEL, memory: int = MB, disk: int = MB, cuts: bool = True
    ) -> StateStore:
        stores.append(StateStore(StateOptions(identity, memory, disk, folder, cuts)))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def saved(store: StateStore, tokens: list[int], data: bytes, thread: str = "t") -> None:
    """Save a state and wait until it is on the disk."""
    store.save(Held(tokens, thread), data)
    store.flush()


def read(store: StateStore, tokens: list[int]) -> bytes | None:
    """What is loaded for a prompt."""
    found = store.find(tokens)
    data = found.load().result() if found else None
    return None if data is None else bytes(data)


def only_file(folder: Path) -> Path:
    """The one state on the disk."""
    (found,) = state_files(folder)
    return found.path


# Which state is found


def test_the_longest_beginning_is_found(opened: Opener) -> None:
    store = opened()
    store.keep(Held([1, 2, 3, 4], "a"), b"a")
    store.keep(Held([1, 2, 9], "b"), b"b")
    found = store.find([1, 2, 3, 7, 7])
    assert found is not None
    assert (found.length, found.shared, found.load().result()) == (4, 3, b"a")
    assert store.find([5, 1, 2]) is None


def test_a_long_state_is_not_read_for_a_little(opened: Opener) -> None:
    store = opened()
    store.keep(Held(list(range(3200)), "a"), b"a")
    found = store.find(list(range(300)))
    assert found is not None
    assert found.is_worth_it(0)
    assert found.is_worth_it(100)
    assert not found.is_worth_it(101)


def test_where_there_is_no_way_back_only_a_whole_state_is_of_use(opened: Opener) -> None:
    store = opened(cuts=False)
    store.keep(Held([1, 2, 3, 4], "a"), b"long")
    store.keep(Held([1, 2], "b"), b"short")
    assert read(store, [1, 2, 3, 7]) == b"short"
    assert read(store, [1, 2, 3, 4, 5]) == b"long"
    assert store.find([1]) is None


def test_adapters_share_nothing(opened: Opener) -> None:
    store = opened()
    adapters = (Adapter("x.gguf", 0.5),)
    store.keep(Held([1, 2, 3], "a", adapters), b"adapted")
    assert store.find([1, 2, 3]) is None
    assert store.find([1, 2, 3], (Adapter("x.gguf", 1.0),)) is None
    found = store.find([1, 2, 3], adapters)
    assert found is not None
    assert found.shared == 3


def test_a_conversation_has_one_state(opened: Opener, folder: Path) -> None:
    store = opened()
    saved(store, [1, 2], b"old")
    saved(store, [1, 2, 3], b"new")
    assert taken(folder).states == 1
    assert read(opened(), [1, 2, 3, 4]) == b"new"


_texts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=12)


@given(_texts, st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_the_index_finds_what_looking_at_all_finds(
    texts: list[list[int]], asked: list[int], data: st.DataObject
) -> None:
    index = PrefixIndex()
    for i, text in enumerate(texts):
        index.add(str(i), token_bytes(text))
    gone = {i for i in range(len(texts)) if data.draw(st.booleans())}
    for i in gone:
        index.discard(str(i))
    left = [text for i, text in enumerate(texts) if i not in gone]

    found = index.longest(token_bytes(asked))
    assert (found[1] if found else 0) == max((_shared(t, asked) for t in left), default=0)
    whole = index.longest_whole(token_bytes(asked))
    fitting = [len(text) for text in left if asked[: len(text)] == text]
    assert (whole[1] if whole else 0) == max(fitting, default=0)


def _shared(one: list[int], other: list[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


# Budgets


def test_memory_keeps_what_was_used_last(opened: Opener) -> None:
    store = opened(memory=200, disk=0)
    store.keep(Held([1], "a"), bytes(100))
    store.keep(Held([2], "b"), bytes(100))
    assert read(store, [1]) is not None
    store.keep(Held([3], "c"), bytes(100))
    assert read(store, [2]) is None
    assert read(store, [1]) is not None
    assert store.facts() == {"states": 2, "bytes": 200}


def test_what_has_no_room_in_memory_goes_to_the_disk(opened: Opener, folder: Path) -> None:
    store = opened(memory=100)
    store.keep(Held([1], "a"), bytes(100))
    store.keep(Held([2], "b"), bytes(100))
    store.flush()
    assert taken(folder).states == 1
    assert read(store, [1]) == bytes(100)
    assert read(store, [2]) == bytes(100)


def test_a_state_of_no_conversation_never_reaches_the_disk(opened: Opener, folder: Path) -> None:
    store = opened(memory=0)
    store.keep(Held([1]), bytes(10))
    store.close()
    assert taken(folder).states == 0


def test_the_disk_keeps_what_was_used_last(opened: Opener, folder: Path) -> None:
    store = opened(disk=2600)
    for i, thread in enumerate("ab"):
        saved(store, [i], bytes(1000), thread)
    for path, used in zip(sorted(folder.glob("*/*.state"), key=_inode), (10, 20), strict=True):
        os.utime(path, (used, used))
    assert read(store, [0]) is not None  # used now, and so newer than the other
    saved(store, [2], bytes(1000), "c")
    assert [read(opened(), [i]) is not None for i in range(3)] == [True, False, True]


def _inode(path: Path) -> int:
    return path.stat().st_ino


def test_the_budget_is_for_all_models(opened: Opener, folder: Path) -> None:
    saved(opened(disk=1500), [1], bytes(1000))
    saved(opened(identity=OTHER, disk=1500), [1], bytes(1000))
    assert taken(folder).states == 1
    assert read(opened(identity=OTHER), [1]) is not None
    assert read(opened(), [1]) is None


def test_nothing_is_kept_without_a_budget(opened: Opener, folder: Path) -> None:
    store = opened(disk=0)
    saved(store, [1], b"x")
    store.close()
    assert not folder.exists()


def test_what_is_larger_than_the_budget_is_not_kept(opened: Opener) -> None:
    store = opened(disk=100)
    saved(store, [1], bytes(1000))
    assert "more than may be kept" in str(store.facts()["problem"])
    assert read(opened(), [1]) is None


# Other processes


def test_what_comes_while_the_disk_is_behind_waits_or_is_not_kept(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MOST_WAITING", 1)
    store = opened(memory=0)
    for i in range(20):
        store.save(Held([i], f"t{i}"), bytes(10_000))
    store.flush()
    assert all(read(store, [i]) is not None for i in range(20))


def test_another_process_goes_on_with_it(opened: Opener) -> None:
    first, second = opened(), opened()
    assert read(second, [1, 2]) is None
    saved(first, [1, 2], b"one")
    assert read(second, [1, 2, 3]) == b"one"
    saved(second, [1, 2, 3], b"two")
    assert read(first, [1, 2, 3]) == b"two"
    assert not second.is_saved(Held([1, 2], "t"))
    assert second.is_saved(Held([1, 2, 3], "t"))


def test_a_file_that_another_process_removed_is_not_there(opened: Opener, folder: Path) -> None:
    store = opened()
    saved(store, [1, 2], b"one")
    found = store.find([1, 2])
    only_file(folder).unlink()
    assert found is not None
    assert found.load().result() is None
    assert store.find([1, 2]) is None


_WRITER = """
    import sys
    from pathlib import Path
    from corral.runtime.models.local.states.held import Held
    from corral.runtime.models.local.states.store import StateOptions, StateStore

    store = StateStore(StateOptions(b"m" * 32, 0, 2**30, Path(sys.argv[1])))
    for i in range(100000):
        store.save(Held([1, 2, i], "t"), bytes([i % 256]) * 2**20)
        store.flush()
        print(i, flush=True)
"""


def test_a_process_that_is_killed_leaves_whole_states(opened: Opener, folder: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(folder)]
    for rounds in (1, 2):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(rounds):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        found = opened().find([1, 2])
        assert found is not None
        data = found.load().result()
        assert data is not None
        assert set(data) == {data[0]}
    opened().flush()
    assert not list(folder.glob(f"*/{file.DRAFT_PREFIX}*"))


def test_many_write_and_read_one_folder_at_once(opened: Opener) -> None:
    stores = [opened(disk=20_000) for _ in range(4)]
    wrong: list[bytes] = []

    def work(store: StateStore, own: int) -> None:
        for i in range(40):
            store.save(Held([own, i], f"t{own}-{i}"), bytes([own]) * 1000)
            for other in range(4):
                data = read(store, [other])
                if data is not None and set(data) != {other}:
                    wrong.append(data)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(stores, range(4), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Bad files


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip_data(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _flip_token(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)


def _foreign(path: Path) -> None:
    path.write_bytes(b"something else")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _for_all(path: Path) -> None:
    path.chmod(0o644)


def _other_key(path: Path) -> None:
    key = path.parent.parent / "key"
    key.write_bytes(bytes(32))


def _short_key(path: Path) -> None:
    key = path.parent.parent / "key"
    key.write_bytes(b"short")


def _linked(path: Path) -> None:
    moved = path.with_name("moved")
    path.rename(moved)
    path.symlink_to(moved)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip_data,
        _flip_token,
        _foreign,
        _empty,
        _for_all,
        _other_key,
        _short_key,
        _linked,
        _fifo,
    ],
)
def test_a_bad_file_is_never_loaded(
    opened: Opener, folder: Path, damage: Callable[[Path], None]
) -> None:
    saved(opened(), [1], b"data")
    damage(only_file(folder))
    store = opened()
    assert read(store, [1]) is None
    saved(store, [1], b"anew")
    assert read(opened(), [1]) == b"anew"


@given(at=st.integers(0, 200), value=st.integers(0, 255))
@example(at=len(file.MAGIC), value=file.VERSION - 1)
def test_no_changed_byte_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("states")
    first = StateStore(StateOptions(MODEL, 0, MB, folder))
    saved(first, [1, 2, 3], b"the data of a state")
    first.close()
    path = only_file(folder)
    before = path.read_bytes()
    at %= len(before)
    path.write_bytes(before[:at] + bytes([value]) + before[at + 1 :])
    second = StateStore(StateOptions(MODEL, 0, MB, folder))
    expected = b"the data of a state" if before[at] == value else None
    assert read(second, [1, 2, 3]) == expected
    second.close()


def test_a_state_of_a_newer_version_stays_for_it(
    opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(file, "VERSION", file.VERSION + 1)
        saved(opened(), [1], b"data")
    assert read(opened(), [1]) is None
    assert taken(folder).states == 1


def test_a_full_disk_is_no_error(
    opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int, __: memoryview) -> int:
        raise OSError(28, "No space left on device")

    store = opened()
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        saved(store, [1], b"data")
    assert read(store, [1]) is None
    assert "No space left on device" in str(store.facts()["problem"])
    assert not list(folder.glob("*/*"))
    saved(store, [1], b"data")
    assert store.facts() == {"states": 0, "bytes": 0}
    assert read(store, [1]) == b"data"


def test_the_last_of_a_disk_is_left_to_others(
    opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "SPARE", 2**62)
    store = opened()
    saved(store, [1], b"data")
    assert "nearly full" in str(store.facts()["problem"])
    assert taken(folder).states == 0


@pytest.mark.parametrize("in_the_way", ["file", "link"])
def test_a_folder_that_is_none_is_not_used(
    opened: Opener, folder: Path, tmp_path: Path, in_the_way: str
) -> None:
    folder.parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if in_the_way == "file":
        folder.write_text("something")
    else:
        folder.symlink_to(elsewhere)
    store = opened()
    saved(store, [1], b"data")
    assert store.facts()["problem"]
    assert not list(elsewhere.iterdir())


def test_only_the_owner_may_read(opened: Opener, folder: Path) -> None:
    saved(opened(), [1], b"data")
    path = only_file(folder)
    for one in (path, folder / "key"):
        assert one.stat().st_mode & 0o777 == 0o600
    for one in (path.parent, folder):
        assert one.stat().st_mode & 0o777 == 0o700


# Deleting


def test_the_states_of_a_deleted_thread_go(opened: Opener, folder: Path) -> None:
    store = opened()
    for thread in ("a", "a/researcher", "b"):
        saved(store, [1, ord(thread[-1])], b"data", thread)
    gone = remove_threads(folder, ["a"])
    assert gone.states == 2
    assert taken(folder).states == 1
    assert read(opened(), [1, ord("b")]) is not None


def test_no_process_brings_a_deleted_thread_back(opened: Opener, folder: Path) -> None:
    store = opened()
    store.keep(Held([1], "a"), b"data")
    saved(store, [2], b"other", "b")
    remove_threads(folder, ["a"])
    store.close()
    assert taken(folder).states == 1


def test_what_no_thread_is_known_of_goes(opened: Opener, folder: Path) -> None:
    store = opened()
    for thread in ("a", "b"):
        saved(store, [1], b"data", thread)
    assert keep_threads(folder, ["b"]).states == 1
    assert keep_threads(folder, ["b"]).states == 0
