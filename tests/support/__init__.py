"""Servers, faults, experiments and small tools that the tests share."""
