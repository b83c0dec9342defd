"""Every store that the documentation names, on a real server of its kind: ``make stores``."""
