"""Text to batches: sources, tokenizers, prepared data sets on disk, and the streams over them."""
