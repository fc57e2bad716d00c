//! The verbs of a container's life.
