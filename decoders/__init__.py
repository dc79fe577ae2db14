"""Concepts -> text."""
