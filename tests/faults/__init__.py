"""Tests of faults on the connection, the lifecycle and long runs."""
