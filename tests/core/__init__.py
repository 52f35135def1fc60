"""Tests of the client, the walk and the values."""
