"""The metrics of tasks, each with an interval: NumPy alone, and two optional packages."""
