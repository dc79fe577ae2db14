"""Concepts -> next concepts: the model, its training, generation, plots, measures and the command line."""

__version__ = "0.1.0"
