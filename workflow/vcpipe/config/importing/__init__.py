"""Configurations of other systems, key by key in our words: a file and an entry of KINDS each."""
