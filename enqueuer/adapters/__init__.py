"""Adapters: the enqueuer in each framework's own idiom, a module each. Importing one loads no other framework."""
