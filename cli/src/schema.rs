//! `mcsqueal schema`: what configuration files may have, as JSON Schema, for editors.

use std::io;

use anyhow::Context;
use schemas::{config::Region, rules::Rules};

use crate::{args::SchemaOf, failure::Failure, invalidate::say, node, router};

/// Runs the command.
pub(crate) fn schema(of: SchemaOf) -> Result<(), Failure> {
    say(&mut io::stdout().lock(), &text(of)?)
}

fn text(of: SchemaOf) -> Result<String, Failure> {
    let schema = match of {
        SchemaOf::Region => Region::json_schema(),
        SchemaOf::Rules => Rules::json_schema(),
        SchemaOf::Node => node::json_schema(),
        SchemaOf::Router => router::json_schema(),
    };
    let mut text = serde_json::to_string_pretty(&schema).context("write the schema")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_published_schemas_are_these() {
        let published = |of| text(of).expect("a schema");
        expect_file!["../../region-configs/region.schema.json"]
            .assert_eq(&published(SchemaOf::Region));
        expect_file!["../../region-configs/rules.schema.json"]
            .assert_eq(&published(SchemaOf::Rules));
        expect_file!["../../region-configs/node.schema.json"].assert_eq(&published(SchemaOf::Node));
        expect_file!["../../region-configs/router.schema.json"]
            .assert_eq(&published(SchemaOf::Router));
    }

    /// The properties of an object and of everything in it, with what is said of each.
    fn properties(schema: &serde_json::Value, out: &mut Vec<(String, Option<String>)>) {
        let Some(fields) = schema.as_object() else { return };
        for (keyword, value) in fields {
            let named = value.as_object().into_iter().flatten();
            match keyword.as_str() {
                // A `const` is the tag of a variant: what is said of the variant is said of it.
                "properties" => named.filter(|(_, about)| about.get("const").is_none()).for_each(
                    |(name, about)| {
                        let said = about.get("description").and_then(|it| it.as_str());
                        out.push((name.clone(), said.map(str::to_owned)));
                        properties(about, out);
                    },
                ),
                "$defs" => named.for_each(|(_, value)| properties(value, out)),
                "items" | "additionalProperties" => properties(value, out),
                _ => value.as_array().into_iter().flatten().for_each(|it| properties(it, out)),
            }
        }
    }

    #[test]
    fn every_key_is_documented_and_in_an_example() {
        for (of, examples) in [
            (SchemaOf::Region, &["shop.toml", "shop-kafka.toml"][..]),
            (SchemaOf::Rules, &["shop.rules.toml"][..]),
            (SchemaOf::Node, &["node.toml"][..]),
            (SchemaOf::Router, &["router.toml"][..]),
        ] {
            let read =
                |name: &&str| std::fs::read_to_string(format!("../region-configs/{name}")).unwrap();
            let text: String = examples.iter().map(read).collect();
            let mut all = Vec::new();
            properties(&serde_json::from_str(&super::text(of).unwrap()).unwrap(), &mut all);
            assert!(all.len() > 4, "{of:?}: {all:?}");
            for (key, said) in all {
                assert!(
                    said.is_some_and(|said| said.len() > 8),
                    "{of:?}: nothing is said of {key}"
                );
                let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
                assert!(words.into_iter().any(|word| word == key), "{of:?}: no example has {key}");
            }
        }
    }
}
