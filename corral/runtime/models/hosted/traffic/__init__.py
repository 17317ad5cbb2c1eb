"""How many calls an endpoint gets, and when: limits, waiting in a fair queue, and rest."""
