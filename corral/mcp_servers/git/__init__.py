"""The ``git`` server: status, diff, log, show and commit in one repository."""
