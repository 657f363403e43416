//! MySQL and MariaDB binlogs, no I/O: events in, changed rows out, in pure steps.
//!
//! ```text
//! bytes --frame--> Event --Assembler--> Change (Begin, Rows, Statement, ..., Commit) --Layout--> projected row images
//! ```

pub mod assemble;
pub mod frame;
pub mod layout;
pub mod table_map;
