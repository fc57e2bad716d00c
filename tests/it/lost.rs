//! Containers whose monitor, starter or program was killed.
