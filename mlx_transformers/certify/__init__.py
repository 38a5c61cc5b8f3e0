"""Measures the promises that are made about every model: `mlxt verify`."""
