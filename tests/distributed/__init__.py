"""Runs of several processes on this machine, over the loopback."""
