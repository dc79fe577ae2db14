"""Sentences without padding: tokens of many behind one another, through one encoder, to one vector a sentence."""
