"""The main job without a keyboard: a local model, a sandboxed tool, a question, a kill, a replay.

    python examples/demo.py

It drives the command line as a person would, in a folder and with a state of its own, and exits
with 0 when everything happened as it should.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
PROMPT = "Read the file garden.txt. When does the garden open?"
EXPECTED = "nine"
CORRAL = (sys.executable, "-m", "corral.cli")


class Demo:
    """One demonstration in ``folder``: its environment, and what was wrong so far."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        shutil.copy(EXAMPLES / "garden.txt", self.work)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CORRAL_")}
        self.env = {**kept, "CORRAL_HOME": str(folder / "state"), "COLUMNS": "100"}
        self.wrong: list[str] = []

    def say(self, title: str, text: str = "") -> None:
        print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)
        if text:
            print(text, flush=True)

    def command(self, *words: str) -> list[str]:
        print(f"$ corral {' '.join(w if ' ' not in w else repr(w) for w in words)}", flush=True)
        return [*CORRAL, "--config", str(EXAMPLES / "demo.toml"), *words]

    def run(self, *words: str, expect: int = 0) -> str:
        argv = self.command(*words)
        done = subprocess.run(
            argv,
            cwd=self.work,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        if done.returncode != expect:
            self.wrong.append(f"corral {words[0]} exited with {done.returncode}, not {expect}")
        return done.stdout

    def ask_and_be_killed(self) -> None:
        """Start a run and kill it, hard, at the moment when its question is stored."""
        argv = self.command("run", PROMPT, "--agent", "reader", "--json")
        child = subprocess.Popen(
            argv, cwd=self.work, env=self.env, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for line in child.stdout:
            event = json.loads(line)
            if event["type"] == "approval_requested":
                child.send_signal(signal.SIGKILL)
                asked = event["approval"]
                print(f"the agent wants {asked['tool']}({json.dumps(asked['args'])})")
                print(f"kill -9 {child.pid}")
        if child.wait() != -signal.SIGKILL:
            self.wrong.append(f"the run ended with {child.returncode} before its question")


def main() -> int:
    """Run the demonstration; the exit code."""
    with tempfile.TemporaryDirectory(prefix="corral-demo-") as folder:
        demo = Demo(Path(folder))
        demo.say("The input", (EXAMPLES / "garden.txt").read_text().rstrip())
        demo.say(
            "1. An agent on the bundled local model is asked about it",
            "SmolLM2-135M is very small. A better model is one flag away: --model PATH.gguf,\n"
            "--model openai:NAME or --model anthropic:NAME.",
        )
        demo.ask_and_be_killed()
        demo.say("2. Its question is still there, in another process")
        demo.run("approvals")
        demo.say("3. It is answered, and the run goes on from where it was")
        demo.run("approve", "last")
        answer = demo.run("resume", "last")
        if EXPECTED not in answer:
            demo.wrong.append(f"the answer does not say {EXPECTED!r}")
        demo.say("4. What happened, from the journal")
        demo.run("trace", "last")
        demo.say("5. The same run again, offline: no model, no tool, no network")
        report = json.loads(demo.run("replay", "last", "--json"))
        if (report["status"], report["executed"]) != ("identical", 0):
            demo.wrong.append("the replay was not identical")
        demo.say("Done." if not demo.wrong else "Something went wrong:", "\n".join(demo.wrong))
        return 1 if demo.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
