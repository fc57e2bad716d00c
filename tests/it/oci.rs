//! kiln as an OCI runtime.
