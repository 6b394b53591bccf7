//! Tests of one database.
