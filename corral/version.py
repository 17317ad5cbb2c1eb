"""The version of this Corral."""

from __future__ import annotations

VERSION = "0.1.0"
