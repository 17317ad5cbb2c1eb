"""The shell server: commands to their end, and jobs, of which nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.client import RawClient
from tests.sandbox.inside import wait_until

DAEMON = "(setsid sh -c 'echo $$ > daemon; exec sleep 600' &) ; while [ ! -s daemon ]; do :; done; "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def shell(folder: Path) -> Iterator[RawClient]:
    with RawClient.of("shell", folder) as client:
        yield client


def run(shell: RawClient, command: object, **more: Any) -> dict[str, Any]:
    structured: dict[str, Any] = shell.call("run_command", command=command, **more)[
        "structuredContent"
    ]
    return structured


def ended(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return status == "Z"


def test_a_script_and_its_exit_code(shell: RawClient) -> None:
    found = run(shell, "echo out; echo err >&2; exit 3")
    assert found.pop("seconds") < 30
    assert found == {
        "state": "exited",
        "exit_code": 3,
        "stdout": "out\n",
        "stderr": "err\n",
        "dropped_bytes": 0,
        "files": [],
    }
    text = shell.text("run_command", command="echo out; echo err >&2; exit 3")
    assert text == "out\n[stderr]\nerr\n[exit code 3]"
    assert shell.text("run_command", command="true") == "(no output)"


def test_words_are_not_read_by_a_shell(shell: RawClient) -> None:
    assert run(shell, ["echo", "$HOME; exit 3", "*"])["stdout"] == "$HOME; exit 3 *\n"


def test_where_and_with_what_it_runs(shell: RawClient, folder: Path) -> None:
    (folder / "sub").mkdir()
    found = run(shell, "pwd; echo $COLOUR; cat", cwd="sub", env={"COLOUR": "red"})
    assert found["stdout"] == f"{folder}/sub\nred\n"


@pytest.mark.parametrize(
    "name", ["PATH", "ld_preload", "LD_LIBRARY_PATH", "BASH_ENV", "GIT_SSH_COMMAND", "a=b", ""]
)
def test_variables_that_change_what_a_command_is(shell: RawClient, name: str) -> None:
    assert "variable" in shell.fault("run_command", command="git status", env={name: "x"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": ["no-such-program"]}, "the program could not be used: No such file"),
        ({"command": "true", "cwd": "nowhere"}, "the folder could not be used: No such file"),
    ],
)
def test_what_cannot_run_says_why(shell: RawClient, arguments: Any, words: str) -> None:
    assert words in shell.fault("run_command", **arguments)


@pytest.mark.parametrize("command", ["", [], ["a\0b"], 3, [3]])
def test_what_is_no_command_is_refused(shell: RawClient, command: object) -> None:
    assert shell.call("run_command", command=command)["isError"]


def test_a_time_limit_ends_everything(shell: RawClient, folder: Path) -> None:
    result = shell.call("run_command", command=DAEMON + "sleep 600", timeout=1)
    assert result["structuredContent"]["state"] == "timeout"
    assert "not done after 1 s" in result["content"][0]["text"]
    assert ended(int((folder / "daemon").read_text()))


def test_what_a_command_leaves_behind_ends_with_it(shell: RawClient, folder: Path) -> None:
    assert run(shell, DAEMON + "echo done")["stdout"] == "done\n"
    assert ended(int((folder / "daemon").read_text()))


def test_a_cancelled_call_ends_everything(shell: RawClient, folder: Path) -> None:
    arguments = {"command": DAEMON + "touch ready; sleep 600"}
    number = shell.send("tools/call", {"name": "run_command", "arguments": arguments})
    wait_until((folder / "ready").exists, "the command's start")
    shell.notify("notifications/cancelled", {"requestId": number})
    daemon = int((folder / "daemon").read_text())
    wait_until(lambda: ended(daemon), "the daemon's end")


def test_a_flood_is_cut_to_its_ends(shell: RawClient) -> None:
    found = run(shell, "echo start; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert found["stdout"].startswith("start\nxxx")
    assert found["stdout"].endswith("xxx\nend\n")
    assert found["dropped_bytes"] == 3_000_011 - 32_768
    assert len(found["stdout"]) < 40_000


def test_files_that_were_written_are_named_once(shell: RawClient) -> None:
    assert run(shell, "mkdir d; echo x > d/made")["files"] == ["d/made"]
    for _ in range(10):  # however close the commands are
        assert run(shell, "true")["files"] == []
        assert run(shell, "echo y >> d/made")["files"] == ["d/made"]


class TestJobs:
    def test_its_output_by_pages(self, shell: RawClient, folder: Path) -> None:
        command = "for n in 1 2 3; do echo line $n; done; touch written; sleep 600"
        assert shell.call("start_job", command=command)["structuredContent"] == {"job": "job-1"}
        wait_until((folder / "written").exists, "its output")
        wait_until(lambda: self.page(shell)["output"].count("\n") == 3, "its lines")
        first = self.page(shell, limit=7)
        assert (first["output"], first["next_offset"], first["more"]) == ("line 1\n", 7, True)
        rest = self.page(shell, offset=7)
        assert (rest["output"], rest["state"], rest["more"]) == (
            "line 2\nline 3\n",
            "running",
            False,
        )
        assert self.page(shell, offset=10**6)["offset"] == 21

    def test_it_is_listed_and_stopped_with_all_that_it_started(
        self, shell: RawClient, folder: Path
    ) -> None:
        shell.text("start_job", command=DAEMON + "touch ready; sleep 600")
        wait_until((folder / "ready").exists, "the job's start")
        (job,) = shell.call("list_jobs")["structuredContent"]["jobs"]
        assert (job["job"], job["state"], job["exit_code"]) == ("job-1", "running", None)
        assert shell.text("stop_job", job="job-1") == "job-1: stopped."
        assert ended(int((folder / "daemon").read_text()))
        assert shell.text("stop_job", job="job-1") == "job-1: stopped."
        assert "job-1: stopped" in shell.text("list_jobs")

    def test_one_that_ends_by_itself(self, shell: RawClient) -> None:
        shell.text("start_job", command="echo it; exit 4")
        wait_until(lambda: self.page(shell)["state"] == "exited", "its end")
        found = self.page(shell)
        assert (found["exit_code"], found["output"]) == (4, "it\n")

    def test_only_the_end_of_a_flood_is_kept(self, shell: RawClient) -> None:
        shell.text("start_job", command="head -c 3000000 /dev/zero | tr '\\0' x; echo end")
        wait_until(lambda: self.page(shell)["state"] == "exited", "its end")
        found = self.page(shell)
        assert found["offset"] == 3_000_004 - 1024 * 1024
        last = self.page(shell, offset=3_000_000)
        assert last["output"] == "end\n"

    def test_there_is_a_bound(self, shell: RawClient) -> None:
        for _ in range(16):
            shell.text("start_job", command="sleep 600")
        assert "stop_job" in shell.fault("start_job", command="true")
        assert "there are: job-1," in shell.fault("job_output", job="nothing")

    def test_the_end_of_the_server_ends_it(self, shell: RawClient, folder: Path) -> None:
        shell.text("start_job", command=DAEMON + "echo $$ > job; touch started; sleep 600")
        wait_until((folder / "started").exists, "its start")
        pids = [int((folder / name).read_text()) for name in ("job", "daemon")]
        assert shell.process.stdin is not None
        shell.process.stdin.close()
        assert shell.process.wait(20) == 0
        wait_until(lambda: all(map(ended, pids)), "the job's end")

    def page(self, shell: RawClient, **more: int) -> dict[str, Any]:
        found: dict[str, Any] = shell.call("job_output", job="job-1", **more)["structuredContent"]
        return found


def test_the_declarations_tell_the_truth(shell: RawClient) -> None:
    tools = {tool["name"]: tool for tool in shell.request("tools/list")["result"]["tools"]}
    read_only = {name for name, tool in tools.items() if tool["annotations"]["readOnlyHint"]}
    assert read_only == {"job_output", "list_jobs"}
    assert set(tools) - read_only == {"run_command", "start_job", "stop_job"}
    assert all(tools[name]["annotations"]["destructiveHint"] for name in set(tools) - read_only)
    assert all("outputSchema" in tool for tool in tools.values())
