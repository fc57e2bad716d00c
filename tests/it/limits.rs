//! Limits of containers: cgroups, pause and update.
