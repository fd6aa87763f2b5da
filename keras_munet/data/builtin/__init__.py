"""Makes the tasks that the package brings along."""
