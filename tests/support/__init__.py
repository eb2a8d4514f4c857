"""Helpers that tests share; nothing here knows the library's inside, only its public API and /proc."""
