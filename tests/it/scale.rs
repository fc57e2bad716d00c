//! Many containers at once, and one after another.
