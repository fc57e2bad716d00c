//! Attaching and detaching, through a real terminal.
