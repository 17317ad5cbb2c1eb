"""The ``web`` server: pages, links, downloads and searches, through the sandbox's proxy alone.

``visiting`` gets an address: rules, robots, redirects, cache. ``reader`` has what came read by a
process of its own (``page_worker``), which is ended when a page takes it too long.
"""
