"""Reference cases of adapting, aligning and evaluating: which code of the project computes them."""
