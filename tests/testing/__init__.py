"""Tests of the fake server and the pytest plugin."""
