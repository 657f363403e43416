//! The section `[auditor]`: as written, and what it means.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{AuditedValue, Auditor, raw::Check};
use crate::rules::Rules;

/// Watches longer than an hour only fill memory.
const LOOK_MS_MAX: u64 = 3_600_000;
/// Value rules.
const VALUES_MAX: usize = 100;

/// What `mcsqueal auditor` watches.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Auditor")]
pub(super) struct RawAuditor {
    /// Where its `/metrics` and `/health` are served, `ip:port`.
    listen: Option<std::net::SocketAddr>,
    /// The share of all keys that is watched, from 0 to 1.
    #[schemars(with = "Option<f64>")]
    sample: Option<Spanned<f64>>,
    /// Keys that are watched at a time; changes beyond that are counted, and not watched.
    #[schemars(with = "Option<u64>")]
    watches_max: Option<Spanned<u64>>,
    /// When a changed key is looked at first: what is there until then is in flight.
    #[schemars(with = "Option<u64>")]
    in_flight_ms: Option<Spanned<u64>>,
    /// When it is looked at again: what is still there is late.
    #[schemars(with = "Option<u64>")]
    late_ms: Option<Spanned<u64>>,
    /// When it is looked at last: what is still there is lost.
    #[schemars(with = "Option<u64>")]
    lost_ms: Option<Spanned<u64>>,
    /// `schema.table` of the canary's row; no canary if left out.
    #[schemars(with = "Option<String>")]
    canary_table: Option<Spanned<String>>,
    /// How often the canary's row is written.
    #[schemars(with = "Option<u64>")]
    canary_interval_ms: Option<Spanned<u64>>,
    /// What keys should hold.
    #[schemars(with = "Vec<RawValue>")]
    #[serde(default)]
    value: Vec<Spanned<RawValue>>,
}

/// What a key should hold, in the words of the database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuditedValue")]
pub(super) struct RawValue {
    /// Changes of which table; as in a rule.
    table: String,
    /// The key, with the columns that it is made of, as in a rule.
    key: String,
    /// A SELECT with a question mark for each column of the key, in their order: the first column of its first row is the value.
    sql: String,
    /// The part of the cached bytes that is compared: the first group of this regex, or all that it matches. All bytes if left out.
    part: Option<String>,
    /// What that part is where the database has no such row, or NULL. If left out, nothing may be cached then.
    absent: Option<String>,
}

impl RawAuditor {
    pub(super) fn check(self, check: &mut Check<'_>) -> Auditor {
        let looks = (10, LOOK_MS_MAX);
        let mut ms = |key: &str, value: &Option<Spanned<u64>>, default| {
            check.number(&format!("auditor.{key}"), value.as_ref(), looks, default)
        };
        let in_flight = ms("in_flight_ms", &self.in_flight_ms, 1000);
        let late = ms("late_ms", &self.late_ms, 10_000);
        let lost = ms("lost_ms", &self.lost_ms, 60_000);
        let interval = ms("canary_interval_ms", &self.canary_interval_ms, 100);
        let watches = (1, 1_000_000);
        let watches_max =
            check.number("auditor.watches_max", self.watches_max.as_ref(), watches, 10_000);
        if let Some(at) =
            self.lost_ms.as_ref().or(self.late_ms.as_ref()).or(self.in_flight_ms.as_ref())
            && !(in_flight < late && late < lost)
        {
            let what = "auditor: in_flight_ms, late_ms and lost_ms must rise in this order";
            check.refuse(at, what.to_owned());
        }
        let canary_table = self.canary_table.and_then(|name| {
            let parts = name.get_ref().split_once('.');
            let plain = parts.filter(|(schema, table)| {
                !schema.is_empty() && !table.is_empty() && !table.contains('.')
            });
            if plain.is_none() {
                check.refuse(&name, "auditor.canary_table: must be schema.table".to_owned());
            }
            plain.map(|(schema, table)| (schema.to_owned(), table.to_owned()))
        });
        if let Some(value) = self.value.get(VALUES_MAX) {
            check.refuse(value, format!("auditor.value: more than {VALUES_MAX}"));
        }
        let values = self.value.into_iter().map(|raw| audited(check, raw)).collect();
        Auditor {
            listen: self.listen,
            sample_millionths: sample(check, self.sample),
            watches_max: usize::try_from(watches_max).unwrap_or(usize::MAX),
            in_flight: Duration::from_millis(in_flight),
            late: Duration::from_millis(late),
            lost: Duration::from_millis(lost),
            canary_table,
            canary_interval: Duration::from_millis(interval),
            values,
        }
    }
}

/// In millionths; 1 % if left out.
fn sample(check: &mut Check<'_>, raw: Option<Spanned<f64>>) -> u32 {
    const DEFAULT: u32 = 10_000;
    let Some(raw) = raw else { return DEFAULT };
    let share = *raw.get_ref();
    if !(0.0..=1.0).contains(&share) {
        check.refuse(&raw, "auditor.sample: must be from 0 to 1".to_owned());
        return DEFAULT;
    }
    format!("{:.0}", share * 1_000_000.0).parse().unwrap_or(DEFAULT)
}

/// Table and key are checked as those of a rule are, by the same grammar.
fn audited(check: &mut Check<'_>, raw: Spanned<RawValue>) -> AuditedValue {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let (table, key) = (quoted(&raw.get_ref().table), quoted(&raw.get_ref().key));
    let rule = format!("[[rule]]\nname = \"value\"\ntable = {table}\nkeys = [{key}]\n");
    if let Err(err) = Rules::parse("auditor.value", &rule) {
        // Its place is one in this text, which nobody wrote.
        let said = err.to_string();
        let what = said.split_once("rule \"value\": ").map_or(&*said, |(_, what)| what);
        check.refuse(&raw, format!("auditor.value: {what}"));
    }
    if let Some(Err(err)) = raw.get_ref().part.as_deref().map(regex::bytes::Regex::new) {
        // The library draws it over several lines; the last says what is wrong.
        let said = err.to_string();
        let what = said.lines().last().unwrap_or_default();
        check.refuse(&raw, format!("auditor.value.part: {what}"));
    }
    let RawValue { table, key, sql, part, absent } = raw.into_inner();
    AuditedValue { table, key, sql, part, absent }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Region;

    const EXAMPLE: &str = include_str!("../../../region-configs/shop.toml");

    fn check(from: &str, to: &str, expect: Expect) {
        assert!(EXAMPLE.contains(from), "edit does not apply: {from}");
        let err = Region::parse("shop.toml", &EXAMPLE.replacen(from, to, 1)).unwrap_err();
        // Where in the file is not the point.
        let shown = err.to_string();
        expect.assert_eq(shown.split_once(": ").unwrap().1);
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let whole = Region::parse("shop.toml", EXAMPLE).unwrap().auditor;
        let (text, _) = EXAMPLE.split_once("[auditor]").unwrap();
        let bare = Region::parse("shop.toml", text).unwrap().auditor;
        assert_eq!(bare, super::Auditor { listen: None, values: Vec::new(), ..whole });
    }

    #[test]
    fn refusals() {
        check("sample = 0.01", "sample = 2.0", expect!["auditor.sample: must be from 0 to 1"]);
        check(
            "late_ms = 10000",
            "late_ms = 100000",
            expect!["auditor: in_flight_ms, late_ms and lost_ms must rise in this order"],
        );
        check(
            "#canary_table = \"mcsqueal.canary\"",
            "canary_table = \"canary\"",
            expect!["auditor.canary_table: must be schema.table"],
        );
        check(
            "key = \"user:{id}\"",
            "key = \"user:{id\"",
            expect![[r#"auditor.value: key "user:{id": the brace at column 6 is never closed"#]],
        );
        check("part = '= ", "part = '(", expect!["auditor.value.part: error: unclosed group"]);
    }
}
