"""From text to batches: sources, tokenizers, prepared sets on disk, and the streams over them."""
