//! Real servers, the shop that the demo runs, and the tests against both.
//!
//! [`servers`] starts private databases, memcached nodes and `mcsqueal`. [`shop`] is an application that
//! uses caches the ordinary way, look-aside, and knows afterwards whether a cached value is stale.
//! [`demo`] puts the two together. Nothing here is part of the product.

pub mod busy;
pub mod cache;
pub mod demo;
pub mod herd;
pub mod http;
pub mod lab;
pub mod random;
pub mod servers;
pub mod shield;
pub mod shop;
pub mod things;
