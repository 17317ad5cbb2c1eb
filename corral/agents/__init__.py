"""The graphs (ReAct), agent specifications, and ``Corral``, which runs them."""
