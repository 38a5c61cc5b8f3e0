"""Reference cases by group: which code of the project computes which published function."""
