"""Reads what is in an image: every blob verified, every layer read once, packages per platform."""
