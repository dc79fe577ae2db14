"""Readers: files and records of every kind to documents."""
