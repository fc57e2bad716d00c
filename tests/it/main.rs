//! The integration tests: whole commands and real parts.

mod support;
