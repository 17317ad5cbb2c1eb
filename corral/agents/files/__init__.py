"""Agents that are written as Markdown files with front matter."""
