"""The shop's operations, by part of the house."""
