//! The stream, delivered to the cache nodes of one region.
