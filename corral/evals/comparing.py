"""Several models asked the same prompts: how good, how fast and how dear each of them is.

Each prompt is a run of its own through the door, one after the other, so that no model is slowed
down by another. They are made in a new folder and leave nothing with the user's own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from corral.agents import app
from corral.agents.options import RunOptions
from corral.agents.spec import Agent
from corral.errors import CorralError
from corral.evals.grading import CaseOutcome, Evidence
from corral.evals.prompts import Prompt
from corral.evals.stopping import done_unless_stopped
from corral.jsontypes import JsonObject
from corral.runtime.caching.settings import CacheSettings
from corral.runtime.config import Settings
from corral.runtime.export.model_names import ModelName

OnAnswer = Callable[["Answer", int, int], None]
"""Called after each answer with it, how many there are and how many there will be."""


@dataclass(frozen=True)
class Answer:
    """What one model gave for one prompt; ``error`` says why it gave nothing.

    ``quality`` is the share of the prompt's checks that held; ``None`` where there are none.
    """

    model: str
    prompt: str
    output: str = ""
    error: str | None = None
    quality: float | None = None
    failed_checks: tuple[str, ...] = ()
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    answered_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """How a model did on all prompts: means of quality, medians of speed, sums of the rest."""

    model: str
    answers: int
    errors: int
    quality: float | None
    first_token_ms: float | None
    tokens_per_second: float | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True)
class Comparison:
    """What was found; ``interrupted`` before all ``planned`` answers were there."""

    models: tuple[str, ...]
    planned: int
    answers: tuple[Answer, ...]
    interrupted: bool = False

    def standings(self) -> list[Standing]:
        """The models in the order in which they were named."""
        by_model = {model: [a for a in self.answers if a.model == model] for model in self.models}
        return [_standing(model, answers) for model, answers in by_model.items()]

    def to_json(self) -> JsonObject:
        """Everything, with what each model did on the whole."""
        return {
            "planned": self.planned,
            "interrupted": self.interrupted,
            "models": [asdict(one) for one in self.standings()],
            "answers": [asdict(one) for one in self.answers],
        }


async def compare(
    prompts: Sequence[Prompt],
    models: Sequence[str],
    settings: Settings,
    *,
    on_answer: OnAnswer | None = None,
    stop: asyncio.Event | None = None,
) -> Comparison:
    """Ask every model every prompt. Setting ``stop`` ends it early and keeps what was done.

    A model that cannot be opened or fails has errors for answers; the others are asked all the
    same. Nothing is answered from the response cache.
    """
    with tempfile.TemporaryDirectory(prefix="corral-compare-", ignore_cleanup_errors=True) as name:
        work = _Work(_apart(settings, Path(name)), tuple(prompts), tuple(models), on_answer)
        done = await done_unless_stopped(work.ask_all(), stop)
        return Comparison(work.models, work.planned, tuple(work.answers), not done)


@dataclass
class _Work:
    """A comparison that goes on."""

    settings: Settings
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    on_answer: OnAnswer | None
    answers: list[Answer] = field(default_factory=list)

    @property
    def planned(self) -> int:
        return len(self.prompts) * len(self.models)

    async def ask_all(self) -> None:
        async with app.open(self.settings) as corral:
            for model in self.models:
                await _load(corral, model)
                for prompt in self.prompts:
                    self._tell(await self._asked(corral, model, prompt))

    async def _asked(self, corral: app.Corral, model: str, prompt: Prompt) -> Answer:
        try:
            result = await corral.run(prompt.prompt, _options(model, prompt))
            effects = await corral.records.trace(result.run)
        except CorralError as error:
            return _failed(model, prompt, error.message)
        if result.status != "completed":
            return _failed(model, prompt, result.error or f"it is {result.status}")
        outcome = CaseOutcome(result, effects)
        evidence = Evidence(outcome, self.settings.workspace)
        return await asyncio.to_thread(_graded, model, prompt, evidence)

    def _tell(self, answer: Answer) -> None:
        self.answers.append(answer)
        if self.on_answer is not None:
            self.on_answer(answer, len(self.answers), self.planned)


def _apart(settings: Settings, folder: Path) -> Settings:
    workspace = folder / "work"
    workspace.mkdir()
    own = {
        "home": folder / "home",
        "database_url": "",
        "workspace": workspace,
        "cache": CacheSettings(mode="off"),
    }
    return settings.model_copy(update=own)


def _options(model: str, prompt: Prompt) -> RunOptions:
    agent = Agent(name="compare", instructions=prompt.system, servers=(), facts=0)
    return RunOptions(agent=agent, model=model)


async def _load(corral: app.Corral, model: str) -> None:
    """Have a model on this machine loaded, which is no part of how fast it answers."""
    if ModelName.of(model).provider == "llama_cpp":
        with contextlib.suppress(CorralError):  # it is told when it is asked the first prompt
            await corral.run("Hello.", _options(model, Prompt(prompt="Hello.")))


def _failed(model: str, prompt: Prompt, error: str) -> Answer:
    """No answer, which is not a good one where the prompt says what is."""
    return Answer(model, prompt.id, error=error, quality=0.0 if prompt.expect else None)


def _graded(model: str, prompt: Prompt, evidence: Evidence) -> Answer:
    result = evidence.outcome.result
    calls = [one for one in evidence.outcome.effects if one.kind == "model"]
    failures = [(check.label, check.failure(evidence)) for check in prompt.expect]
    failed = tuple(f"{label}: {why}" for label, why in failures if why is not None)
    held = len(failures) - len(failed)
    return Answer(
        model=model,
        prompt=prompt.id,
        output=evidence.output,
        quality=held / len(failures) if failures else None,
        failed_checks=failed,
        first_token_ms=_median(one.first_token_ms for one in calls),
        tokens_per_second=_median(one.tokens_per_second for one in calls),
        input_tokens=result.usage.input_tokens,
        cached_tokens=sum(one.cached_tokens for one in calls),
        output_tokens=result.usage.output_tokens,
        cost_usd=result.usage.cost_usd,
        answered_by=tuple(dict.fromkeys(one.answered_by or one.name for one in calls)),
    )


def _standing(model: str, answers: Sequence[Answer]) -> Standing:
    given = [one for one in answers if one.error is None]
    quality = [one.quality for one in answers if one.quality is not None]
    return Standing(
        model=model,
        answers=len(given),
        errors=len(answers) - len(given),
        quality=statistics.fmean(quality) if quality else None,
        first_token_ms=_median(one.first_token_ms for one in given),
        tokens_per_second=_median(one.tokens_per_second for one in given),
        input_tokens=sum(one.input_tokens for one in given),
        cached_tokens=sum(one.cached_tokens for one in given),
        output_tokens=sum(one.output_tokens for one in given),
        cost_usd=sum(one.cost_usd for one in given),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
