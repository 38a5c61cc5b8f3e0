"""Optimizers, schedules, clipping, loss scaling and averaging: what moves the parameters."""
