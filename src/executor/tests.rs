//! Tests of the loop over the in-memory transport.
