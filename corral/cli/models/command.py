"""The commands of ``corral models`` under their names."""

from __future__ import annotations

import typer

from corral.cli.models import bench, cache, compare, info, listing, usage

app = typer.Typer(
    name="models",
    help="The models that there are, what they need, how fast they are and how they were used.",
    rich_markup_mode=None,
)
app.command("list")(listing.list_)
app.command("info")(info.info)
app.command("bench")(bench.bench)
app.command("usage")(usage.usage)
app.command("compare")(compare.compare)
app.command("cache")(cache.cache)
