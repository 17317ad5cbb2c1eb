"""Whether an agent goes round in circles, and what to do about it.

``History`` is told what an agent does, and says before a call, and before the model is asked again,
whether that would go on with a loop: the same call with the same result, several calls in turn,
edits that undo each other, a model that repeats its text, ever new calls that lead nowhere. Waiting
for something, paging and working through a list are no loops.
"""

from corral.policies.loops.history import History as History
from corral.policies.loops.history import Turn as Turn
from corral.policies.loops.inputs import Call as Call
from corral.policies.loops.settings import LoopSettings as LoopSettings
from corral.policies.loops.settings import Measure as Measure
from corral.policies.loops.settings import Patience as Patience
from corral.policies.loops.verdict import Verdict as Verdict
