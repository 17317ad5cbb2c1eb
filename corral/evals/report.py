"""What an evaluation found: results case by case, as JSON, as a table and as an exit code."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from corral.errors import UsageError
from corral.jsontypes import JsonObject


@dataclass(frozen=True)
class CheckResult:
    """Whether one check held, and in words why not."""

    check: str
    passed: bool
    why: str | None = None


@dataclass(frozen=True)
class Trial:
    """One run of one case. ``error`` says why there was no result to check, or no good one.

    ``score`` is the share of the checks that held, from 0 to 1; ``passed`` means all of them.
    """

    case: str
    number: int
    passed: bool
    score: float
    checks: tuple[CheckResult, ...] = ()
    run: str | None = None
    status: str | None = None
    output: str = ""
    error: str | None = None
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    duration_ms: float = 0.0

    def to_json(self) -> JsonObject:
        """All fields as a JSON object."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks]}

    @property
    def why(self) -> str:
        """Why it failed, in words; empty when it passed."""
        failed = [f"{check.check} — {check.why}" for check in self.checks if not check.passed]
        return "\n".join(failed) if failed or self.passed else self.error or "failed"


@dataclass(frozen=True)
class Report:
    """What an evaluation found. ``planned`` trials were to be made; fewer when ``interrupted``."""

    name: str
    threshold: float
    planned: int
    trials: tuple[Trial, ...]
    interrupted: bool = False

    @property
    def pass_rate(self) -> float:
        """The share of the trials made that passed, from 0 to 1."""
        passed = sum(trial.passed for trial in self.trials)
        return passed / len(self.trials) if self.trials else 0.0

    @property
    def passed(self) -> bool:
        """Whether all trials were made and enough of them passed."""
        return not self.interrupted and self.pass_rate >= self.threshold

    @property
    def exit_code(self) -> int:
        """0 when it passed, else 1."""
        return 0 if self.passed else 1

    def cases(self) -> dict[str, list[Trial]]:
        """The trials of each case, in the order of the set."""
        found: dict[str, list[Trial]] = {}
        for trial in self.trials:
            found.setdefault(trial.case, []).append(trial)
        return found

    def to_json(self) -> JsonObject:
        """Everything, with totals and rates worked out."""
        cases = []
        for name, trials in self.cases().items():
            cases.append(
                {
                    "id": name,
                    "passed": all(trial.passed for trial in trials),
                    "pass_rate": sum(trial.passed for trial in trials) / len(trials),
                    "score": sum(trial.score for trial in trials) / len(trials),
                    "trials": [trial.to_json() for trial in trials],
                }
            )
        return {
            "name": self.name,
            "passed": self.passed,
            "pass_rate": self.pass_rate,
            "threshold": self.threshold,
            "planned": self.planned,
            "done": len(self.trials),
            "interrupted": self.interrupted,
            "totals": self._totals(),
            "cases": cases,
        }

    def _totals(self) -> JsonObject:
        totals: Counter[str] = Counter()
        for trial in self.trials:
            totals["steps"] += trial.steps
            totals["input_tokens"] += trial.input_tokens
            totals["output_tokens"] += trial.output_tokens
        cost = sum(trial.cost_usd for trial in self.trials)
        duration = sum(trial.duration_ms for trial in self.trials)
        return {**totals, "cost_usd": cost, "duration_ms": round(duration, 3)}


def write_json(report: Report, path: Path) -> None:
    """Write the report to a file. Raises ``UsageError`` when the file cannot be written."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    try:
        path.write_text(text.encode("utf-8", "replace").decode() + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {path}: {error.strerror}.",
            hint="Name a file in a folder that exists and is yours.",
        ) from error


def table(report: Report) -> Table:
    """The report as a table: one line a case, and why it failed."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    done = len(report.trials)
    sign = "≥" if report.pass_rate >= report.threshold else "<"
    verdict = f"{report.pass_rate:.0%} {sign} {report.threshold:.0%}"
    drawn.add_column("case", footer=_safe(report.name), overflow="fold")
    drawn.add_column("passed", footer=verdict, no_wrap=True)
    drawn.add_column("score", justify="right")
    drawn.add_column("steps", justify="right", footer=str(sum(t.steps for t in report.trials)))
    drawn.add_column("tokens", justify="right", footer=str(_tokens(report.trials)))
    drawn.add_column("seconds", justify="right", footer=_seconds(report.trials))
    unfinished = f"interrupted: {done} of {report.planned} done" if report.interrupted else ""
    drawn.add_column("why it failed", footer=unfinished, overflow="fold")
    for name, trials in report.cases().items():
        passed = sum(trial.passed for trial in trials)
        word = "yes" if len(trials) == 1 and passed else "no" if len(trials) == 1 else ""
        rate = Text(word or f"{passed}/{len(trials)}", style=_style(passed, len(trials)))
        score = sum(trial.score for trial in trials) / len(trials)
        steps = str(sum(trial.steps for trial in trials))
        cells = (f"{score:.2f}", steps, str(_tokens(trials)), _seconds(trials))
        drawn.add_row(_safe(name), rate, *cells, _why(trials))
    return drawn


def progress_line(trial: Trial, done: int, planned: int) -> str:
    """One line about a trial that has just ended."""
    word = "pass" if trial.passed else "FAIL"
    seconds = trial.duration_ms / 1000
    why = "" if trial.passed else f"  {_printable(trial.why.splitlines()[0])[:160]}"
    return f"[{done}/{planned}] {word}  {trial.case}  {trial.steps} steps, {seconds:.1f} s{why}"


def _why(trials: list[Trial]) -> Text:
    """The reasons, each once, the most frequent first."""
    reasons = Counter(trial.why for trial in trials if not trial.passed)
    times = len(trials) > 1
    lines = [
        f"{count} x {_printable(why)}" if times else _printable(why)
        for why, count in reasons.most_common(3)
    ]
    if len(reasons) > 3:
        lines.append(f"and {len(reasons) - 3} more reasons")
    return Text("\n".join(lines))


def _style(passed: int, of: int) -> str:
    return "green" if passed == of else "yellow" if passed else "red"


def _tokens(trials: list[Trial] | tuple[Trial, ...]) -> int:
    return sum(trial.input_tokens + trial.output_tokens for trial in trials)


def _seconds(trials: list[Trial] | tuple[Trial, ...]) -> str:
    return f"{sum(trial.duration_ms for trial in trials) / 1000:.1f}"


def _safe(text: str) -> Text:
    return Text(_printable(text))


def _printable(text: str) -> str:
    """Model output is untrusted: nothing in it may steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
