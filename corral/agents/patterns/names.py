"""The names of the patterns, for what must start before LangGraph is imported."""

NAMES = (
    "react",
    "reflection",
    "plan_execute",
    "orchestrator_workers",
    "supervisor",
    "hierarchical",
    "network",
    "debate",
    "self_consistency",
    "best_of_n",
    "tree_of_thoughts",
    "mcts",
    "budget_forcing",
    "router",
    "cascade",
)
