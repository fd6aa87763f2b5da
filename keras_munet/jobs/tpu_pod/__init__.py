"""Cloud TPUs from the command line: create, set up, run, watch, delete."""
