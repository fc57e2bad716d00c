//! Containers that are started again by themselves.
