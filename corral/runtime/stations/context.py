"""What a question shows besides its call: kept with it, so that every surface shows the same later.

agents       who asks, from the run's own agent down: ``agent`` and the ``task`` it was given
spent        what the run had used: ``steps``, tokens and US dollars; ``limits`` what it may use
budgets      each limit that holds there: whose (``account``, ``words``), ``measure``, ``used``,
             ``limit``
facts        what policy knew of the call (``call_facts``); ``read``, what its model had read
rule         what asked: ``label``, ``layer`` and ``source`` of the rule; ``every_time``
tool         what the server says of the tool, which is a claim where it is not ``trusted``
file         what would change in a file (``file_change``)
commands     the commands that would run: ``argv`` and whether that is all (``literal``)
hosts        where it would connect to, as far as the arguments say
suggestions  what "always" could mean: ``rule`` and ``words``, from this exact call to wider
advice       what a model said that did not decide: ``by``, ``answer``, ``reason``
input        what a tool server asks: ``server``, ``mode``, ``schema``, ``fields``, ``url``
held         the seconds for which a call is kept waiting for the answer, if one is
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from corral.jsontypes import JsonObject
from corral.policies.always import suggestions
from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.layers import PROVENANCE, Opinion
from corral.policies.limits import RunLimits
from corral.policies.patterns.contents import commands_in, hosts_in
from corral.policies.patterns.shell import Command
from corral.policies.rules import Decision, Rule
from corral.runtime.approvals.file_change import file_change
from corral.runtime.approvals.rule_text import table_of
from corral.runtime.call_facts import facts_to_json
from corral.runtime.journal import Journal
from corral.tools.contract import ToolSpec

_MAX_DESCRIPTION = 1000


def of_run(journal: Journal, path: str, agent: str, prompt: str, limits: RunLimits) -> JsonObject:
    """Who asks at ``path`` and on whose behalf, and what the run has used."""
    return {
        "agents": [{"agent": agent, "task": prompt}, *_delegations(journal, path)],
        "spent": asdict(journal.spent),
        "limits": limits.model_dump(mode="json", exclude_none=True),
    }


def _delegations(journal: Journal, path: str) -> list[JsonObject]:
    """The agents below the run's own that ``path`` is inside of, outermost first."""
    found: list[JsonObject] = []
    at = path.find("/")
    while at > 0:
        entry = journal.find(path[:at])
        if entry is not None and entry.kind == "agent":
            task = (entry.request.get("args") or {}).get("task", "")
            found.append({"agent": entry.name, "task": str(task)})
        at = path.find("/", at + 1)
    return found


@dataclass(frozen=True)
class Asked:
    """Why policy wants a call asked about: its decision, and the opinions behind it."""

    decision: Decision
    opinions: tuple[Opinion, ...]

    @property
    def asking(self) -> list[Opinion]:
        """The opinions that ask."""
        return [opinion for opinion in self.opinions if opinion.decision.action == "ask"]

    @property
    def doubted(self) -> bool:
        """Whether it is asked because of what the model had read."""
        return any(opinion.layer == PROVENANCE for opinion in self.asking)

    @property
    def every_time(self) -> bool:
        """Whether nobody can answer it ahead."""
        rules = (opinion.rule for opinion in self.asking)
        return any(rule is not None and rule.every_time for rule in rules)

    def to_json(self) -> JsonObject:
        """What a question keeps of it."""
        decision = self.decision
        return {
            "label": decision.rule,
            "layer": decision.layer,
            "source": decision.source,
            "reasons": [opinion.decision.reason for opinion in self.asking],
            "doubted": self.doubted,
            "every_time": self.every_time,
        }


def of_call(call: ToolCall, spec: ToolSpec, asked: Asked | None) -> JsonObject:
    """What will happen if the call is made, and why it is asked about."""
    label = call.label
    return {
        "facts": facts_to_json(call),
        "read": {
            "sources": list(label.sources),
            "untrusted": label.untrusted,
            "private": label.private,
        },
        "rule": None if asked is None else asked.to_json(),
        "tool": {
            "description": spec.description[:_MAX_DESCRIPTION],
            "trusted": spec.trusted,
            "read_only": spec.read_only,
            "destructive": spec.destructive,
            "open_world": spec.open_world,
        },
        "file": file_change(call.name, call.args, call.workspace),
        "commands": [_command(command) for command in commands_in(call.args)],
        "hosts": list(hosts_in(call.args)),
        "suggestions": [] if asked is None or asked.every_time else _suggestions(call, asked),
    }


def _command(command: Command) -> JsonObject:
    return {
        "argv": list(command.argv),
        "unknown": sorted(command.unknown),
        "via": list(command.via),
        "opaque": command.opaque,
    }


def _suggestions(call: ToolCall, asked: Asked) -> list[JsonObject]:
    """From just this call to wider ones; where it was doubted, each says that in so many words."""
    known = {"untrusted": call.label.untrusted, "private": call.label.confidential}
    said = {name: True for name, value in known.items() if value} if asked.doubted else {}
    rules = [each.rule.model_copy(update=said) for each in suggestions(call)]
    return [{"rule": table_of(rule), "words": _words(rule)} for rule in rules]


def _words(rule: Rule) -> str:
    return describe(rule).removeprefix(f"{rule.action} ")
