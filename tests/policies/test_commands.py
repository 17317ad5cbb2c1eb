"""Commands: what a pattern says is what runs, however the script is written."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.patterns.commands import (
    command_value,
    commands_of,
    is_command_name,
    matches_command_loosely,
    matches_command_strictly,
    parse_command_pattern,
)


def allows(pattern: str, script: str) -> bool:
    return matches_command_strictly([pattern], script)


def catches(pattern: str, script: str) -> bool:
    return matches_command_loosely([pattern], script)


class TestAllow:
    @pytest.mark.parametrize(
        "script",
        [
            "git status",
            "git status -s",
            "  git   status\t-s  ",
            "git 'status' \"-s\"",
            "git status 'a b' \"c d\" e\\ f",
            "git status; git status -s",
            "git status && git status || git status | git status",
            "git status\ngit status\n",
            "git status \\\n  --short",
            "git status -- 'it is $HOME; `rm` && *'",
            "git status a#b HEAD~1 x=y é",
            "timeout 60 git status",
            "nohup git status",
            "env git status",
            "command git status",
            "bash -c 'git status'",
            "sh -lc 'git status && git status -s'",
            "timeout 5 nohup bash -c 'git status'",
        ],
    )
    def test_it_fits_plain_words_of_which_every_command_fits(self, script: str) -> None:
        assert allows("git status *", script)

    @pytest.mark.parametrize(
        "script",
        [
            "",
            " ",
            "# git status",
            "git",
            "git statusx",
            "gitstatus",
            "git push",
            "./git status",
            "/usr/bin/git status",
            "GIT status",
            "\uff47\uff49\uff54 status",
            "git\u200b status",
            "git status; rm x",
            "git status;rm x",
            "rm x; git status",
            "git status && rm x",
            "git status || rm x",
            "git status | rm x",
            "git status & rm x",
            "git status &",
            "git status\nrm x",
            "git status\r\nrm x",
            "git status\rrm x",
            "git status\0; rm x",
            "git status\u2028rm x",
            "git status\u00a0x",
            "git status $(rm x)",
            "git status `rm x`",
            'git status "$(rm x)"',
            'git status "`rm x`"',
            "git status <(rm x)",
            "git status >(rm x)",
            "git status > f",
            "git status 2>&1",
            "git status < f",
            "git status <<< x",
            "git status <<E\n$(rm x)\nE\n",
            "git status $X",
            "git status ${X:-$(rm x)}",
            "git status $((1))",
            "git status $'\\x41'",
            'git status $"x"',
            "git status *",
            "git status ?",
            "git status [a]",
            "git status {a,b}",
            "git status ~",
            "git status a=~",
            "git status !!",
            "git status # rm",
            "git status '",
            'git status "',
            "git status \\",
            "git status ;; rm",
            "git status &&",
            "&& git status",
            "A=b git status",
            "PATH=/evil git status",
            "git=x; git status",
            "f() { rm; }; git status",
            "if git status; then git status; fi",
            "{ git status; }",
            "( git status )",
            "! git status",
            "time git status",
            "coproc git status",
            "alias git=rm; git status",
            "env A=b git status",
            "env -i git status",
            "env -S 'git status'",
            "timeout -k 5 60 git status",
            "sudo git status",
            "doas git status",
            "xargs git status",
            "bash -c 'rm x'",
            "bash -c 'git status; rm x'",
            "bash -c 'git status' x y",
            "bash -ic 'git status'",
            "bash -x -c 'git status'",
            "/tmp/bash -c 'git status'",
            "eval git status",
            "exec git status",
            "ssh host git status",
            "busybox git status",
            "python -c 'git status'",
            "echo git status | sh",
            "git -c alias.status='!rm x' status",
            "git -c core.pager='rm x' status",
            "git --exec-path=/evil status",
            "git status --exec='rm x'",
        ],
    )
    def test_it_fits_nothing_else(self, script: str) -> None:
        assert not allows("git status *", script)

    @pytest.mark.parametrize(
        "script",
        [
            "find . -exec rm {} ';'",
            "find . -exec rm x ';'",
            "find . -execdir rm x +",
        ],
    )
    def test_open_words_do_not_stand_for_further_commands(self, script: str) -> None:
        assert allows("find *", "find . -name 'a.py'")
        assert not allows("find *", script)

    @pytest.mark.parametrize(
        ("pattern", "script"),
        [
            ("sudo *", "sudo rm x"),
            ("env *", "env rm x"),
            ("timeout *", "timeout 5 rm x"),
            ("bash *", "bash -c 'rm x'"),
            ("xargs *", "xargs rm"),
            ("git *", "git -c alias.x='!rm x' x"),
            ("tar *", "tar cf x --checkpoint-action=exec='rm x' y"),
            ("awk *", "awk 'BEGIN{system(\"rm\")}'"),
            ("python *", "python -c 'x'"),
            ("python", "python"),
        ],
    )
    def test_a_program_that_runs_others_is_allowed_to_only_as_far_as_it_is_spelled_out(
        self, pattern: str, script: str
    ) -> None:
        assert not allows(pattern, script)

    def test_what_a_pattern_spells_out_is_said(self) -> None:
        assert allows("sudo systemctl restart *", "sudo systemctl restart web")
        assert allows("timeout 60 make *", "timeout 60 make test")
        assert not allows("sudo systemctl restart *", "sudo -u root systemctl restart web")

    def test_each_command_may_fit_a_pattern_of_its_own(self) -> None:
        patterns = ["git status *", "ls *"]
        assert matches_command_strictly(patterns, "ls -l && git status")
        assert not matches_command_strictly(patterns, "ls -l && git push")

    @pytest.mark.parametrize(
        ("pattern", "script", "expected"),
        [
            ("npm test", "npm test", True),
            ("npm test", "npm test x", False),
            ("npm run *", "npm run", True),
            ("npm run test:*", "npm run test:unit", True),
            ("npm run test:*", "npm run test:unit x", False),
            ("npm * unit", "npm run unit", True),
            ("npm * unit", "npm run x unit", False),
            ("echo 'a b'", "echo 'a b'", True),
            ("echo 'a b'", "echo a b", False),
            ("echo \\*", "echo '*'", True),
            ("echo \\*", "echo x", False),
            ("*", "anything at all", True),
        ],
    )
    def test_words_are_matched_one_by_one(self, pattern: str, script: str, expected: bool) -> None:
        assert allows(pattern, script) is expected

    def test_an_argument_vector_needs_no_shell(self) -> None:
        assert matches_command_strictly(["git log *"], ["git", "log", "$(rm x); *"])
        assert not matches_command_strictly(["git log *"], ["git log"])
        assert not matches_command_strictly(["git log *"], ["git", "push"])
        assert not matches_command_strictly(["*"], [])
        assert not matches_command_strictly(["git *"], ["git", "a\x1bb"])
        assert not matches_command_strictly(["bash *"], ["bash", "-c", "rm x"])


CAUGHT = [
    "rm -rf /x",
    "/bin/rm -rf /x",
    "./rm -rf /x",
    "\\rm -rf /x",
    "'rm' -rf /x",
    "r''m -rf /x",
    'r"m" -rf /x',
    "$'rm' -rf /x",
    "$'\\x72m' -rf /x",
    "r\\\nm -rf /x",
    "r$@m -rf /x",
    "r${x}m -rf /x",
    "$(echo rm) -rf /x",
    "`echo rm` -rf /x",
    "{rm,-rf,/x}",
    "/b??/rm -rf /x",
    "/bin/r[m] -rf /x",
    "x=rm; $x -rf /x",
    "echo a; rm -rf /x",
    "echo a;rm -rf /x",
    "echo a && rm -rf /x",
    "echo a || rm -rf /x",
    "echo a | rm -rf /x",
    "echo a & rm -rf /x",
    "echo a\nrm -rf /x",
    "echo a\r\nrm -rf /x",
    "rm\r -rf /x",
    "rm\0 -rf /x",
    "rm\u200b -rf /x",
    "\uff52\uff4d -rf /x",
    "echo $(rm -rf /x)",
    "echo `rm -rf /x`",
    'echo "$(rm -rf /x)"',
    'echo "${x:-$(rm -rf /x)}"',
    "echo ${x:-`rm -rf /x`}",
    "echo $((1+$(rm -rf /x)))",
    "a[$(rm -rf /x)]=1",
    "x=$(rm -rf /x)",
    "export x=$(rm -rf /x)",
    "cat <(rm -rf /x)",
    "cat > >(rm -rf /x)",
    "cat <<E\n$(rm -rf /x)\nE\n",
    "cat <<E\n`rm -rf /x`\nE\n",
    "cat <<E y; rm -rf /x\nE\n",
    "cat <<<$(rm -rf /x)",
    "bash <<E\nrm -rf /x\nE\n",
    "bash <<<'rm -rf /x'",
    "echo 'rm -rf /x' | sh",
    "echo cm0gLXJm | base64 -d | bash -s",
    "> f rm -rf /x",
    "2>&1 rm -rf /x",
    "env > f rm -rf /x",
    "(rm -rf /x)",
    "{ rm -rf /x; }",
    "! rm -rf /x",
    "time rm -rf /x",
    "coproc rm -rf /x",
    "if true; then rm -rf /x; fi",
    "while rm -rf /x; do :; done",
    "for i in 1; do rm -rf /x; done",
    "case x in x) rm -rf /x;; esac",
    "f() { rm -rf /x; }; f",
    "[[ -n $(rm -rf /x) ]]",
    "[[ -v 'a[$(rm -rf /x)]' ]]",
    "let 'a[$(rm -rf /x)]=1'",
    "A=b rm -rf /x",
    "env rm -rf /x",
    "env A=b rm -rf /x",
    "env -i A=b rm -rf /x",
    "env -u A rm -rf /x",
    "env -S 'rm -rf /x'",
    "env -S'rm -rf /x'",
    "env --split-string='rm -rf /x'",
    "sudo rm -rf /x",
    "sudo -u root rm -rf /x",
    "sudo -u root -- rm -rf /x",
    "doas rm -rf /x",
    "su -c 'rm -rf /x'",
    "su root -c 'rm -rf /x'",
    "nohup rm -rf /x",
    "nice -n 5 rm -rf /x",
    "timeout 5 rm -rf /x",
    "timeout -s KILL 5 rm -rf /x",
    "stdbuf -o0 rm -rf /x",
    "setsid -w rm -rf /x",
    "exec rm -rf /x",
    "exec -a ls rm -rf /x",
    "command -p rm -rf /x",
    "builtin command rm -rf /x",
    "eval rm -rf /x",
    "eval 'rm -rf /x'",
    "eval r''m -rf '/x'",
    'eval "$x"',
    "bash -c 'rm -rf /x'",
    "bash -lc 'rm -rf /x'",
    "bash -c -e 'rm -rf /x'",
    "bash -o pipefail -c 'rm -rf /x'",
    'bash -c "rm -rf /x"',
    "bash -c 'bash -c \"rm -rf /x\"'",
    'sh -c "$x"',
    "zsh -c 'rm -rf /x'",
    "busybox rm -rf /x",
    "busybox sh -c 'rm -rf /x'",
    "xargs rm -rf /x",
    "echo / | xargs -n 1 rm -rf",
    "xargs -I{} sh -c '{}'",
    "find . -exec rm -rf /x ';'",
    "find . -exec rm -rf /x \\;",
    "find . -name a -execdir rm -rf {} +",
    "fd -x rm -rf /x",
    "parallel rm ::: -rf",
    "trap 'rm -rf /x' EXIT",
    "alias ls='rm -rf /x'",
    "source /dev/stdin",
    ". <(echo rm -rf /x)",
    "git -c alias.x='!rm -rf /x' x",
    "git -c core.pager='rm -rf /x' log",
    "git config alias.x '!rm -rf /x'",
    "git rebase --exec 'rm -rf /x' HEAD~1",
    "git rebase -x 'rm -rf /x' HEAD~1",
    "git bisect run rm -rf /x",
    "git submodule foreach rm -rf /x",
    "GIT_PAGER='rm -rf /x' git log",
    "export PAGER='rm -rf /x'",
    "env GIT_SSH_COMMAND='rm -rf /x' git fetch",
    "ssh host rm -rf /x",
    "ssh -p 22 me@host 'rm -rf /x'",
    "ssh -o ProxyCommand='rm -rf /x' host",
    "tar cf x --checkpoint=1 --checkpoint-action=exec='rm -rf /x' y",
    "tar -I 'rm -rf /x' -xf y",
    "rsync -e 'rm -rf /x' a b:",
    "docker run -it img rm -rf /x",
    "docker exec c sh -c 'rm -rf /x'",
    "kubectl exec pod -n prod -- rm -rf /x",
    "uv run rm -rf /x",
    "npx rm -rf /x",
    "tmux new-session -d 'rm -rf /x'",
    "watch rm -rf /x",
    "script -c 'rm -rf /x' f",
    "flock f rm -rf /x",
    "ld-linux-x86-64.so.2 /bin/rm -rf /x",
    "python -c 'import os'",
    "python3 -W ignore -c 'import os'",
    "python - <<E\nimport os\nE\n",
    "echo x | python",
    "perl -e 'unlink'",
    "ruby -e x",
    "node -e x",
    "awk 'BEGIN{system(\"rm -rf /x\")}'",
    "sed '1e rm -rf /x' f",
    "sed 's/x/rm/e' f",
    "vim -c ':!rm -rf /x' f",
    "make SHELL='rm -rf /x'",
    "echo 'unclosed",
    "echo $(",
    "if rm",
]


class TestDeny:
    @pytest.mark.parametrize("script", CAUGHT)
    def test_it_finds_the_command_in_every_disguise(self, script: str) -> None:
        assert catches("rm -rf *", script)
        for pattern in ("echo *", "git log *", "find *", "env *", "sudo *", "bash *", "python *"):
            assert not allows(pattern, script)

    @pytest.mark.parametrize(
        "script",
        [
            "ls -l",
            "echo rm -rf /x",
            "echo 'rm -rf /x'",
            "git commit -m 'rm -rf /x; $(rm)'",
            "grep -rn 'rm -rf' .",
            "ls $HOME",
            'for f in *.py; do echo "$f"; done',
            "cat <<'E' > f\n$(rm -rf /x)\nE\n",
            "# rm -rf /x",
            "ls # rm -rf /x",
            "rmdir x",
            "RM -rf x",
            "python script.py",
            "python -m pytest -q",
            "bash script.sh",
            "make test",
            "awk '{print $1}' f | sort | uniq -c",
            "sed -i 's/rm/mv/g' *.txt",
            "sudo ls",
            "find . -name rm -type f",
            "xargs ls",
            "rm x",
            "cd a && make 2>&1 | tee log",
            "x=1; y=$((x+1)); echo ${y}",
        ],
    )
    def test_it_leaves_alone_what_is_something_else(self, script: str) -> None:
        assert not catches("rm -rf *", script)

    @pytest.mark.parametrize(
        ("pattern", "script", "expected"),
        [
            ("git push *", "git push", True),
            ("git push *", "git -C dir push -f", True),
            ("git push *", "git --no-pager -c a.b=c push", True),
            ("git push *", "git commit -m push", False),
            ("git push *", "git $x", True),
            ("git push *", "git p*", True),
            ("git push *", "git stash push", False),
            ("git push --force *", "git push -v --force", True),
            ("kubectl delete pod *", "kubectl delete -n prod pod x", True),
            ("reboot", "reboot", True),
            ("reboot", "reboot --force", True),
            ("reboot", "reboot now", False),
            ("/sbin/reboot", "reboot", True),
            ("*", "ls", True),
        ],
    )
    def test_options_do_not_hide_a_subcommand(
        self, pattern: str, script: str, expected: bool
    ) -> None:
        assert catches(pattern, script) is expected

    def test_one_argument_vector_or_many_scripts(self) -> None:
        assert matches_command_loosely(["rm *"], ["sudo", "rm", "x"])
        assert not matches_command_loosely(["rm *"], ["echo", "$(rm x)"])
        assert matches_command_loosely(["rm *"], [])


def quote(script: str) -> str:
    return shlex.quote(script)


SPELLINGS: list[Callable[[str], str]] = [
    lambda word: word,
    lambda word: f"'{word}'",
    lambda word: f'"{word}"',
    lambda word: "\\" + word,
    lambda word: word[:1] + "''" + word[1:],
    lambda word: word[:1] + '"' + word[1:] + '"',
    lambda word: "$'" + "".join(f"\\x{ord(c):02x}" for c in word) + "'",
    lambda word: "/usr/bin/" + word,
    lambda word: word[:1] + "\\\n" + word[1:],
    lambda word: word[:1] + "${x}" + word[1:],
]
DISGUISES: list[Callable[[str], str]] = [
    lambda s: s,
    lambda s: f"ls; {s}",
    lambda s: f"ls;{s}",
    lambda s: f"ls && {s}",
    lambda s: f"ls || {s} || ls",
    lambda s: f"ls | {s}",
    lambda s: f"ls\n{s}",
    lambda s: f"ls & {s}",
    lambda s: f"ls $( {s})",  # $(( would begin arithmetic, in which no command is run
    lambda s: f'ls "$( {s})"',
    lambda s: f"ls <({s})",
    lambda s: f"x=$( {s})",
    lambda s: f"({s})",
    lambda s: f"{{ {s}\n}}",
    lambda s: f"if ls; then {s}\nfi",
    lambda s: f"for i in a; do {s}\ndone",
    lambda s: f"f() {{ {s}\n}}; f",
    lambda s: f"bash -c {quote(s)}",
    lambda s: f"sh -lc {quote(s)}",
    lambda s: f"eval {quote(s)}",
    lambda s: f"env bash -c {quote(s)}",
    lambda s: f"env -S {quote('bash -c ' + quote(s))}",
    lambda s: f"sudo -u me sh -c {quote(s)}",
    lambda s: f"timeout -k 1 5 bash -c {quote(s)}",
    lambda s: f"nohup nice -n 3 bash -c {quote(s)} x",
    lambda s: f"xargs -n 1 bash -c {quote(s)}",
    lambda s: f"find . -exec bash -c {quote(s)} ';'",
    lambda s: f"ssh -p 22 me@host {quote(s)}",
    lambda s: f"git -c alias.x={quote('!' + s)} x",
    lambda s: f"trap {quote(s)} EXIT",
    lambda s: f"bash <<'END'\n{s}\nEND\n",
    lambda s: f"echo {quote(s)} | sh",
    lambda s: f"ls # harmless\n{s}",
    lambda s: f"FOO=bar {s}" if s[:1].isalpha() else s,
]


@settings(deadline=None)
@given(
    name=st.sampled_from(["danger", "rm", "curl"]),
    words=st.lists(st.sampled_from(["-rf", "x", "'a b'", "--all", "a=b"]), max_size=3),
    spelling=st.sampled_from(SPELLINGS),
    disguises=st.lists(st.sampled_from(DISGUISES), max_size=4),
)
def test_no_composition_of_disguises_gets_past_a_rule(
    name: str,
    words: list[str],
    spelling: Callable[[str], str],
    disguises: list[Callable[[str], str]],
) -> None:
    plain = " ".join([name, *words])
    script = " ".join([spelling(name), *words])
    for disguise in disguises:
        script = disguise(script)
    assert catches(plain, script)
    assert catches(f"{name} *", script)
    for other in ("ls *", "bash *", "env *", "find *", "git *", "sudo *", "echo *", "x *"):
        assert not allows(other, script), other


@settings(deadline=None)
@given(st.text(alphabet="ab ;|&\n$(){}`'\"\\<>*=#!~-", max_size=40), st.sampled_from(["a", "b"]))
def test_what_an_allow_lets_through_a_deny_of_the_same_catches(script: str, name: str) -> None:
    if allows(f"{name} *", script):
        assert catches(f"{name} *", script)
        assert all(command.literal and command.argv[0] == name for command in commands_of(script))


class TestShowing:
    def test_commands_are_shown_with_what_runs_them(self) -> None:
        found = commands_of("sudo bash -c 'curl -s $URL | sh'")
        shown = [(command.via, " ".join(command.argv), command.literal) for command in found]
        assert shown[0] == ((), "sudo bash -c curl -s $URL | sh", True)
        assert (("sudo", "bash"), "curl -s $URL", False) in shown
        assert found[-1].opaque
        assert found[-1].via == ("sudo", "bash", "sh")

    @pytest.mark.parametrize("name", ["command", "cmd", "shell_command", "runCommand", "argv"])
    def test_arguments_are_commands_by_their_names(self, name: str) -> None:
        assert is_command_name(name)
        assert not is_command_name("comment")

    def test_words_beside_a_command_belong_to_it(self) -> None:
        value = command_value("command", {"command": "git", "args": ["push", "-f"]})
        assert value.plain == (("git", "push", "-f"),)
        assert any(matches_command_loosely(["git push *"], one) for one in value.readings)
        assert command_value("command", {"command": "git x", "args": ["push"]}).plain == ()
        assert command_value("commands", {"commands": ["ls", "rm x"]}).plain == ("ls", "rm x")
        assert command_value("command", {"command": {"x": "rm x"}}).plain == ()


@pytest.mark.parametrize("pattern", ["", "  ", "echo 'x", 'echo "x'])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"write one such as|close the quotes"):
        parse_command_pattern(pattern)


@pytest.mark.parametrize(
    "script",
    [
        "a" * 100_000,
        "(" * 5_000,
        "$(" * 5_000,
        "bash -c '" * 2_000,
        "env " * 4_000 + "rm",
        "sudo -u " * 2_000 + "rm",
        "xargs -I " * 2_000,
        "'" * 9_999,
        "\\" * 9_999,
        "a;" * 9_000,
        "git -c a.b=" + "x=" * 5_000,
        "sed " + "/e" * 5_000 + " " * 5_000,
        "bash -c " + " ".join(["'bash -c x'"] * 1_000),
    ],
)
def test_no_script_makes_matching_slow(script: str) -> None:
    started = time.process_time()
    catches("rm -rf *", script)
    assert not allows("rm *", script)
    assert time.process_time() - started < 2
