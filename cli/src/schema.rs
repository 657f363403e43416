//! `mcsqueal schema`: what configuration files may have, as JSON Schema, for editors.

use std::io;

use anyhow::Context;
use schemas::{config::Region, rules::Rules};

use crate::{args::SchemaOf, failure::Failure, invalidate::say, node};

/// Runs the command.
pub(crate) fn schema(of: SchemaOf) -> Result<(), Failure> {
    say(&mut io::stdout().lock(), &text(of)?)
}

fn text(of: SchemaOf) -> Result<String, Failure> {
    let schema = match of {
        SchemaOf::Region => Region::json_schema(),
        SchemaOf::Rules => Rules::json_schema(),
        SchemaOf::Node => node::json_schema(),
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
    }
}
