//! Looks whether a container is healthy.
