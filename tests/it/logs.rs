//! `kiln logs`: drivers, rotation, and what is shown.
