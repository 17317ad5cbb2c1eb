"""The ways to isolate: one module a back end, each behind the contract."""
