"""No published weights."""
