"""Every metric beside the reference of its field: the cases that tests run and tools/certify.py writes down."""
