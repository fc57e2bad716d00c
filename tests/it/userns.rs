//! Containers in a user namespace of their own.
