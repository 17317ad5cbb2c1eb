"""What one agent has done so far, as far as loops can be seen in it.

It is fed call by call and answer by answer. A step takes a time that does not depend on how many
there were before, and the memory is bounded.
"""

from __future__ import annotations

from corral.policies.loops.edits import Edits
from corral.policies.loops.inputs import Call
from corral.policies.loops.outcomes import read_result
from corral.policies.loops.repeats import Cycles, Repeats
from corral.policies.loops.settings import Patience
from corral.policies.loops.speech import Speech
from corral.policies.loops.stalls import Stalls
from corral.policies.loops.verdict import Verdict

Turn = tuple[int, str]
"""When a call was asked for: the step of the graph, and the branch in it."""

_CALM = 5
"""Calls that bring something new, after which earlier alarms are forgotten."""


class History:
    """The calls and answers of one agent, and the alarms that there were.

    ``alarms`` counts since the last time that things went well for a while.
    """

    def __init__(self) -> None:
        self.alarms = 0
        self._calm = 0
        self._turn: Turn | None = None
        self._repeats = Repeats()
        self._cycles = Cycles()
        self._edits = Edits()
        self._stalls = Stalls()
        self._speech = Speech()

    def heard(self, text: str) -> None:
        """The user has said this: what it names was given, and not guessed."""
        self._stalls.known.learn(text)

    def said(self, text: str, *, goes_on: bool = True) -> None:
        """The model has answered. ``goes_on``: its prompt held what it had said before."""
        self._turn = None
        self._speech.said(text, goes_on=goes_on)

    def made(self, call: Call, text: str, *, is_error: bool = False) -> None:
        """A call has ended with this result."""
        key, result = call.key, read_result(text, is_error=is_error)
        is_new = self._repeats.made(call, key, result)
        self._cycles.made(call, key, result)
        self._edits.made(call, key, result)
        brought = self._stalls.made(call, key, result, text)
        if is_new or result.nature in ("pending", "transient"):
            self._speech.moved()
        if is_new and brought and result.nature == "fine":
            self._calm += 1
        if self._calm >= _CALM:
            self.alarms = self._calm = 0

    def before_call(self, call: Call, patience: Patience) -> Verdict | None:
        """Whether making this call would go on with a loop."""
        key = call.key
        return (
            self._cycles.verdict(key, patience)
            or self._edits.verdict(call, key, patience)
            or self._repeats.verdict(key, patience)
        )

    def before_answer(self, patience: Patience) -> Verdict | None:
        """Whether the model should be told, before it is asked again, that it gets nowhere.

        Not in the turn in which a call of its was refused: it knows already.
        """
        if self._turn is not None:
            return None
        return self._stalls.verdict(patience) or self._speech.verdict(patience)

    def alarm(self, turn: Turn) -> int:
        """The number of the alarm that a call of this turn raises; the first one is 1.

        What several branches of one step ask for at once is one alarm.
        """
        beside = self._turn is not None and self._turn[0] == turn[0] and self._turn[1] != turn[1]
        return self.alarms + (not beside)

    def alarmed(self, turn: Turn) -> None:
        """A call of this turn was refused."""
        self.alarms = self.alarm(turn)
        self._calm = 0
        self._turn = turn

    def told(self) -> None:
        """The model was told, together with its next question."""
        self.alarms += 1
        self._calm = 0
        self._stalls.restart()
        self._speech.restart()
