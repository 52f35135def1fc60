"""The wire format, without I/O: requests out, replies in.

`protocol` is what all endpoints share; each endpoint has a module of its own beside it.
"""
