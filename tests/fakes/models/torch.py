"""Stands in for torch, as far as the process with a model uses it."""


def set_num_threads(count: int) -> None:
    """Does nothing."""
