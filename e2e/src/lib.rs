//! Real servers, the shop that the demo runs, and the tests against both.
