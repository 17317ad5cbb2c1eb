"""Pure decisions: rules, limits, loops, redaction. No I/O, no clock, no LangGraph."""
