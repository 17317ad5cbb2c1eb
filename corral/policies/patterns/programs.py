"""Which programs run what their arguments say, after GTFOBins (https://gtfobins.github.io).

The lists cannot be complete: a program that is in none is seen as itself only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def _listed(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _each(names: str, operands: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(names.split(), operands)


SHELLS = _listed(
    "sh bash rbash dash ash zsh rzsh ksh rksh mksh lksh pdksh ksh93 yash posh fish tcsh csh elvish"
    " xonsh nu oil osh"
)
"""They run a script: of ``-c``, of a file, or from their input."""

TRANSPARENT = _listed("nohup nice timeout gtimeout time command env stdbuf setsid ionice")
"""They run a command as the same user, in the same place."""

WRAPPERS: Mapping[str, tuple[int, ...]] = {
    **_each(
        "nohup nice time command env stdbuf setsid ionice sudo doas pkexec run0 builtin exec"
        " busybox toybox strace ltrace gdb unbuffer fakeroot bwrap firejail unshare nsenter"
        " dbus-run-session xvfb-run"
        " npx bunx uvx catchsegv caffeinate perf systemd-run systemd-inhibit prlimit"
        " linux32 linux64 coproc proxychains proxychains4 torsocks tsocks torify eatmydata chronic"
        " setpriv capsh softlimit tini dumb-init entr numactl valgrind rlwrap cpulimit schedtool"
        " watchexec noglob nocorrect start-stop-daemon rr sg heaptrack hyperfine sshpass pty chpst"
        " envdir setuidgid cgexec choom",
        (0,),
    ),
    **_each("timeout gtimeout chrt taskset chroot flock gosu su-exec", (1,)),
    **_each("setarch", (0, 1)),
    **_each("direnv", (2,)),
}
"""They run a command that follows their options and so many words of their own."""

RUNNERS: Mapping[str, tuple[int, ...]] = {
    **_each(
        "uv poetry pipenv pdm hatch rye conda mamba micromamba bundle pipx nix"
        " mise asdf rbenv pyenv nodenv dotenv op rtx devbox pixi heroku flatpak fly",
        (1, 2),
    ),
    **_each(
        "docker podman nerdctl kubectl oc lxc crictl machinectl aws-vault docker-compose"
        " podman-compose distrobox toolbox ip vagrant buildah",
        (1, 2, 3),
    ),
}
"""They do so after one of ``RUN_WORDS``, or after ``--``."""

PACKAGE_RUNNERS = _listed("npm pnpm yarn bun")
PACKAGE_RUN_WORDS = _listed("exec x dlx")
"""They run a command after one of these, and a script of the package after ``run``."""

RUN_WORDS = _listed("run exec x dlx compose shell develop enter netns tool")

JOINERS = _listed("eval watch viddy")
"""They join the words after their options to one script."""

REMOTE = _listed("ssh slogin autossh mosh rsh remsh")
"""They join the words after their options and a host to one script, for a shell there."""

XARGS = _listed("xargs gxargs")
FINDERS = _listed("find gfind bfs fd fdfind")
SCRIPT_WORDS = _listed("su runuser script tmux screen nix-shell byobu trap expect zellij")
"""One of their words may be a script."""

OPAQUE = _listed(
    "at batch crontab bind complete enable hash fc ed ftp lftp sftp tclsh wish ghci parallel sem"
    " rush"
)
"""What they run comes from elsewhere, or in a language of their own."""

FILE_READERS = _listed(". source")

EVALUATING = _listed(
    "let declare typeset local readonly export printf read unset test [ [[ wait mapfile readarray"
    " getopts"
)
"""Built-in commands of shells that may run a substitution in a word that was quoted."""

CODE_OPTIONS: Mapping[str, str] = {
    r"i?(?:python|pypy|micropython)[\d.]*": r"-[A-Za-z]*c.*",
    r"perl[\d.]*": r"-[A-Za-z0-9]*[eEM].*",
    r"(?:j?ruby|irb|lua|luajit|texlua|julia|Rscript|R|osascript|groovy|scala|elixir)[\d.]*": (
        r"-[A-Za-z]*[eE].*|--eval.*|--exec.*|--print.*"
    ),
    r"(?:node|nodejs|bun|tsx|ts-node)[\d.]*": r"-[A-Za-z]*[ep].*|--eval.*|--print.*",
    r"deno": r"eval|repl",
    r"php[\d.]*": r"-[A-Za-z]*[rBREF].*|--(?:run|process).*",
    r"(?:pwsh|powershell|cmd)(?:\.exe)?": r"[-/][cCeEkK].*",
    r"(?:guile|sbcl|clisp|jshell|erl|ocaml|octave|gnuplot)[\d.]*": r"-[A-Za-z]*[cexE].*|--e.*",
}
"""The options of interpreters after which code stands, or in which."""

CODE_MODULES = _listed("timeit pdb code cProfile profile trace")
"""Modules of Python that run code which they are given."""

ESCAPES: Mapping[str, str] = {
    r"(?:vi|vim|rvim|nvim|view|vimdiff|ex|less|more|man|mail|mutt)": r"!|system|shell|term",
    r"emacs(?:client)?": r"shell|process|eval|load|-l|-f|call|system",
    r"(?:sqlite3|psql|mysql|mariadb|lldb|nmap|pry)": r"!|system|shell|program|script|platform",
    r"[gmn]?awk|original-awk": r"system|(?<!\|)\|(?!\|)|getline|@|/dev/",
    r"g?make|just": r"\$[({]|^--eval|^-E|^-f?-$|^SHELL=|^\.SHELLFLAGS|`|/dev/",
    r"socat|ncat|nc|netcat": r"(?i:exec:|system:|shell:|^-[a-z]*[ec])|--(?:sh-|lua-)?exec",
    r"g?sed": (  # the command e, and the flag e of s
        r"(?:^|[;{}\n0-9$/!,~ ])e(?:\s|$)"
        r"|(?!^)[^A-Za-z0-9\s][gpiImM0-9]*e[gpiImMw0-9]*(?:[\s;}]|$)"
    ),
}
"""What in a word lets a program run something in a language of its own."""

EXEC_OPTIONS: Mapping[str, str] = {
    r"tar|gtar|bsdtar": r"-[A-Za-z]*[IF]|--(?:info-script|new-volume-script|use-compress-program)",
    r"rsync": r"-[A-Za-z]*e",
    r"scp|ssh|slogin|autossh": r"-[oSF]",
    r"zip": r"-TT|--unzip-command",
    r"man": r"-[PH]",
    r"g?sort": r"--compress-pro[a-z]*",
    r"g?split": r"--filter",
    r"(?:.*-)?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)[-\d.]*": r"-wrapper",
    r"go": r"-exec|-toolexec|-vettool",
    r"rg": r"--pre|--hostname-bin",
    r"fzf|sk": r"--preview|--bind|--reload",
    r"apt|apt-get|dpkg": r"-o|--option",
    r"wget": r"--use-askpass",
    r"git": r"--(?:config|config-env|exec-path|template|receive-pack|upload-pack)",
}
"""The options of a program whose value is a command, besides those whose name says so."""

GIT_RUNS = (
    *(("run", "bisect"), ("foreach", "submodule"), ("config", "config"), ("--", "filter-branch")),
    *(("-x", "rebase"), ("-x", "difftool"), ("-O", "grep"), ("-u", "clone"), ("-u", "ls-remote")),
)
"""Words of ``git`` after which commands follow, if another word is there, too."""

EXEC_OPTION = re.compile(
    r"--?(?!no-)(?:[a-z]+-)*(?:exec|command|cmd|shell|eval|rsh|pager|editor|checkpoint-action)"
    r"(?:-[a-z]+)*"
)
SCRIPT_VARIABLE = re.compile(
    r".*(?:COMMAND|PAGER|EDITOR|VISUAL|BROWSER|ASKPASS|_CMD|_EXEC|LESSOPEN|LESSCLOSE|_RSH|_SSH)"
    r"|BASH_ENV|ENV|SHELL|PS[0-4]|GIT_(?:EXTERNAL_DIFF|CONFIG_.*|EXEC_PATH)|RSYNC_.*|TAR_OPTIONS"
)
"""Environment variables that some program takes for a command."""
