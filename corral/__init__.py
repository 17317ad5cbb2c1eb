"""Corral: a local-first runtime for LLM agents."""
