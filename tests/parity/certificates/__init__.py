"""Every metric against the reference of its field: cases for the tests and for tools/certify.py."""
