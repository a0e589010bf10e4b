"""OpenAPI document -> operations."""
