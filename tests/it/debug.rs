//! `kiln debug`, `mount` and `unmount`.
