"""The ``python`` server: code in sessions that keep their variables, with packages on request."""
