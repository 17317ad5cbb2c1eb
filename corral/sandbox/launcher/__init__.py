"""The process between Corral and a sandbox: prepares it, watches it and ends it.

Run as ``python -I -S FOLDER/__main__.py`` with its order in the environment (see ``order``). It
uses nothing outside the standard library and imports no other part of Corral, so that it starts
in milliseconds and stays small for as long as the sandbox lives.
"""
