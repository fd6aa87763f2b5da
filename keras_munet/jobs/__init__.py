"""Starts, watches and restarts jobs as processes, here and on other hosts."""
