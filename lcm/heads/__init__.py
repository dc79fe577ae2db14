"""Heads: how a context becomes the next concept. A new objective is one file here."""
