//! Bounds on a rules file.

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Most rules of a file.
pub const RULES_MAX: usize = 10_000;
/// Most regexes of a file, of tables and of `match` filters together: each may need a MiB.
pub const REGEXES_MAX: usize = 1_000;
/// Most key templates of a rule.
pub const RULE_KEYS_MAX: usize = 64;
/// Most columns in a rule's `columns`; no table of the supported servers has more.
pub const RULE_COLUMNS_MAX: usize = 4096;
/// Longest rule name, in bytes.
pub const RULE_NAME_BYTES_MAX: usize = 100;
/// Longest `table`, in bytes.
pub const TABLE_BYTES_MAX: usize = 1000;
/// Longest template, in bytes.
pub const KEY_TEMPLATE_BYTES_MAX: usize = 1000;
/// Most places for columns in a template.
pub const TEMPLATE_PLACES_MAX: usize = 32;
