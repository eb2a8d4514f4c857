"""Tests of the worker program."""
