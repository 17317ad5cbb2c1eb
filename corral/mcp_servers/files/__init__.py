"""The ``files`` server: list, read, search, change, move and delete in the granted folders.

``listing``, ``reading``, ``search``, ``writing``, ``patching`` and ``moving`` declare tools over a
``Workspace``; ``server`` joins them. A search without ripgrep runs in a process of its own
(``search_worker``), which is ended when an expression takes it too long.
"""
