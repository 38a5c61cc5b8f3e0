"""Training objectives, one file each: `(models, batch, ctx) -> Loss`. See `objective`."""
