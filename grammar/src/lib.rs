//! Dockerfile text in, typed tree or diagnostics out.
