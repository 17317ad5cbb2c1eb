"""Answers of models that need not be made again."""
