//! What flags of isolation change in a container.
