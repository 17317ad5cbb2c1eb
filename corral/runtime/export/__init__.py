"""Runs as they leave this machine and come in: a file, a page, spans, a test."""
