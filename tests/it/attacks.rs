//! Attacks out of a container that must fail with the default profile.
