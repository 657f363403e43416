//! What keys a binlog implies: reads the pseudo-SQL of `mysqlbinlog --verbose` and knows by heart what
//! the rules of the shop and the zoo say.

use std::collections::BTreeSet;

/// memcached's limit.
const KEY_BYTES_MAX: usize = 250;

/// A row as the tool prints it: columns by position, NULL as `None`.
type Image = Vec<Option<Vec<u8>>>;

/// A row change.
#[derive(Debug, Default)]
struct Change {
    table: String,
    before: Option<Image>,
    after: Option<Image>,
}

/// Every key that a client can have stored and that some row change made stale.
pub(super) fn keys(printed: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    for change in changes(printed) {
        for key in keys_of(&change) {
            let storable = (1..=KEY_BYTES_MAX).contains(&key.len())
                && !key.iter().any(|byte| b" \r\n\0".contains(byte));
            if storable {
                keys.insert(key);
            }
        }
    }
    keys
}

fn changes(printed: &[u8]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for line in printed.split(|&byte| byte == b'\n') {
        let Some(line) = line.strip_prefix(b"### ") else { continue };
        if let Some(value) = line.strip_prefix(b"  @") {
            let change = changes.last_mut().expect("a column follows its statement");
            let equals = value.iter().position(|&byte| byte == b'=').expect("a column has a value");
            let image = change.after.as_mut().or(change.before.as_mut());
            image.expect("a column follows WHERE or SET").push(literal(&value[equals + 1..]));
            continue;
        }
        let text = String::from_utf8_lossy(line);
        let statement = ["INSERT INTO ", "UPDATE ", "DELETE FROM "];
        match text.trim_end() {
            "WHERE" => {
                let change = changes.last_mut().expect("WHERE follows its statement");
                change.before = Some(Vec::new());
            }
            "SET" => {
                let change = changes.last_mut().expect("SET follows its statement");
                change.after = Some(Vec::new());
            }
            text => {
                let table = statement.iter().find_map(|start| text.strip_prefix(start));
                let table = table.unwrap_or_else(|| panic!("an unknown line: {text}"));
                changes.push(Change { table: table.replace('`', ""), ..Change::default() });
            }
        }
    }
    changes
}

/// `1`, `-1 (4294967295)`, `12.50`, `NULL` or `'text'`, in which backslashes escape.
fn literal(text: &[u8]) -> Option<Vec<u8>> {
    if text == b"NULL" {
        return None;
    }
    let Some(quoted) = text.strip_prefix(b"'") else {
        return Some(text.split(|&byte| byte == b' ').next().unwrap_or_default().to_vec());
    };
    let end = quoted.iter().rposition(|&byte| byte == b'\'').expect("a text ends with a quote");
    Some(unescaped(&quoted[..end]))
}

/// The tools do not know that a column is unsigned: its upper half looks negative to them.
fn unsigned(number: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(number).expect("a number is ASCII");
    match text.parse::<i64>() {
        Ok(number) => number.cast_unsigned().to_string().into_bytes(),
        Err(_) => text.into_bytes(),
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let hex = [*high, *low];
                let hex = std::str::from_utf8(&hex).expect("two digits");
                bytes.push(u8::from_str_radix(hex, 16).expect("two hexadecimal digits"));
                rest = after;
            }
            (b'\\', [escaped, after @ ..]) => {
                bytes.push(*escaped);
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

fn keys_of(change: &Change) -> Vec<Vec<u8>> {
    let images = || change.before.iter().chain(&change.after);
    let differs = |column: usize| match (&change.before, &change.after) {
        (Some(before), Some(after)) => before[column] != after[column],
        _ => true, // An insert or a delete concerns every rule.
    };
    let mut keys: Vec<Option<Vec<u8>>> = Vec::new();
    for image in images() {
        let column = |number: usize| image[number - 1].clone();
        match change.table.as_str() {
            "shop.users" => {
                keys.push(key("user:", column(1)));
                let email = column(2).map(|email| {
                    String::from_utf8(email)
                        .expect("the column is UTF-8")
                        .to_lowercase()
                        .into_bytes()
                });
                keys.push(key("user-by-email:", email));
            }
            "shop.products" => {
                keys.push(key("product:", column(1)));
                keys.push(key("product-by-sku:", column(2)));
            }
            "shop.orders" => {
                keys.push(key("order:", column(1)));
                if differs(1) || differs(2) {
                    keys.push(key("orders-of:", column(2)));
                }
            }
            "shop.zoo" => {
                keys.push(key("zoo:", column(1).map(unsigned)));
                keys.push(key("zoo-tag:", column(2)));
                keys.push(key("zoo-tag-or:", column(2).or(Some(b"none".to_vec()))));
                // The rule is about the amount, but a row that moves to another size counts too.
                if differs(2) || differs(3) {
                    let both = column(4).zip(column(3));
                    keys.push(key(
                        "zoo-size:",
                        both.map(|(size, amount)| [size, amount].join(&b':')),
                    ));
                }
            }
            other => panic!("a table that nobody changes: {other}"),
        }
    }
    keys.into_iter().flatten().collect()
}

/// No key is made of NULL.
fn key(prefix: &str, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
    value.map(|value| [prefix.as_bytes(), &value].concat())
}

#[test]
fn reads_what_the_tools_print() {
    let printed = b"# at 4\n\
        ### UPDATE `shop`.`users`\n### WHERE\n###   @1=7\n###   @2='A\\x27b@C'\n###   @3='n'\n###   @4=1\n\
        ### SET\n###   @1=7\n###   @2='d e'\n###   @3='n'\n###   @4=2\n\
        ### INSERT INTO `shop`.`zoo`\n### SET\n###   @1=9\n###   @2=NULL\n###   @3=-1.50\n###   @4=-3 (4294967293)\n###   @5=NULL\n\
        BEGIN\n";
    let shown: Vec<String> =
        keys(printed).iter().map(|key| key.escape_ascii().to_string()).collect();
    assert_eq!(
        shown,
        ["user-by-email:a\\'b@c", "user:7", "zoo-size:-3:-1.50", "zoo-tag-or:none", "zoo:9"]
    );
}
