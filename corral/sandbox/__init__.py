"""Isolation of processes behind one small contract."""
