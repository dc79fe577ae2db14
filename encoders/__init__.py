"""Sentences -> concepts."""
