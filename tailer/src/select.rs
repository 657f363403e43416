//! [`Selecting`]: single values, read by statements of a user's own, for tools that fill caches.

use mysql_async::{Conn, Row, Value, prelude::Queryable};

use crate::settings::Settings;

/// The source does not answer, or does not like the statement.
#[derive(Debug, thiserror::Error)]
#[error("ask the source")]
pub struct SelectError(#[from] mysql_async::Error);

/// A connection for statements.
#[derive(Debug)]
pub struct Selecting(Conn);

impl Selecting {
    /// Connects as the tailer does. Each statement has a snapshot of its own.
    pub async fn connect(settings: &Settings) -> Result<Selecting, SelectError> {
        Ok(Selecting(Conn::new(settings.opts()).await?))
    }

    /// The first column of the first row, as text; `None` if there is no row, or NULL in it. Each `?` of the statement takes a text.
    pub async fn value(
        &mut self,
        statement: &str,
        texts: Vec<String>,
    ) -> Result<Option<Vec<u8>>, SelectError> {
        let texts: Vec<Value> = texts.into_iter().map(Value::from).collect();
        let row: Option<Row> = self.0.exec_first(statement, texts).await?;
        Ok(row.and_then(|mut row| row.take::<Value, _>(0)).and_then(text))
    }
}

fn text(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(bytes),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        Value::UInt(number) => Some(number.to_string().into_bytes()),
        Value::Float(number) => Some(number.to_string().into_bytes()),
        Value::Double(number) => Some(number.to_string().into_bytes()),
        time => Some(time.as_sql(true).trim_matches('\'').as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_texts() {
        for (value, expected) in [
            (Value::NULL, None),
            (Value::Bytes(b"a'b".to_vec()), Some("a'b")),
            (Value::Int(-5), Some("-5")),
            (Value::UInt(u64::MAX), Some("18446744073709551615")),
            (Value::Double(1.5), Some("1.5")),
            (Value::Date(2026, 1, 31, 12, 0, 5, 0), Some("2026-01-31 12:00:05")),
        ] {
            let expected = expected.map(|text| text.as_bytes().to_vec());
            assert_eq!(text(value.clone()), expected, "{value:?}");
        }
    }
}
