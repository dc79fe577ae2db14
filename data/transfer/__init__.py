"""Stores into stores, and into what others read, without encoding again."""
