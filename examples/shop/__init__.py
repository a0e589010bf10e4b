"""A small shop with a precise OpenAPI document, and defects that can be laid over it one by one."""
