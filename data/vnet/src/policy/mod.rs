//! A VPC's rules: what its documents say about a flow.
