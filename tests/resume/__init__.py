"""Streams that are interrupted and resumed."""
