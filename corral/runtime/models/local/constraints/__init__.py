"""JSON Schemas as grammars that a model cannot break, and what they leave to be checked."""
