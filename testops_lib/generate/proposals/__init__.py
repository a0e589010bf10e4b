"""Proposed cases, of whatever may invent them -> valid cases: judged by the document, the policy and plain sense."""
