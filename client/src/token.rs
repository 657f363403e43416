//! [`Token`]: what a user must see, as text that goes with him from request to request and from region to region.
//!
//! ```text
//! token = "1." (epoch "." number / "primary")      ; the 1 is the version of this format
//! ```
//!
//! The characters are good for cookies, headers and baggage. A token says nothing secret, and one that was made up makes
//! its bearer's reads slower, nobody else's. Versions of different sources must not be mixed: name the cookie after the
//! source. Let a token live for a minute: replicas that lag longer are an alarm, not a habit.

use std::{fmt, str::FromStr};

use schemas::version::Version;

/// Longest text of a token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 32;

/// What a reader must see. Ordered: the higher one demands more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// Everything up to a commit.
    AtLeast(Version),
    /// Whatever the primary has: a write whose version could not be told.
    Primary,
}

/// Text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token")]
pub struct NoToken;

impl Token {
    /// What demands both.
    #[must_use]
    pub fn and(self, other: Token) -> Token {
        self.max(other)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::AtLeast(version) => write!(f, "1.{version}"),
            Token::Primary => f.write_str("1.primary"),
        }
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Token, NoToken> {
        let rest = text.get(..text.len().min(TOKEN_BYTES_MAX + 1)).ok_or(NoToken)?;
        let rest = rest.strip_prefix("1.").filter(|_| text.len() <= TOKEN_BYTES_MAX);
        let rest = rest.ok_or(NoToken)?;
        if rest == "primary" {
            return Ok(Token::Primary);
        }
        let (epoch, number) = rest.split_once('.').ok_or(NoToken)?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(epoch) || !plain(number) {
            return Err(NoToken);
        }
        let (epoch, number) = (epoch.parse().ok(), number.parse().ok());
        let version = epoch.zip(number).and_then(|(epoch, number)| Version::new(epoch, number));
        version.map(Token::AtLeast).ok_or(NoToken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        let token = Token::AtLeast(Version::new(3, 77).unwrap());
        assert_eq!(token.to_string(), "1.3.77");
        assert_eq!("1.3.77".parse(), Ok(token));
        assert_eq!("1.primary".parse(), Ok(Token::Primary));
        assert_eq!(token.and(Token::Primary), Token::Primary);
        for wrong in [
            "",
            "1.",
            "1.3",
            "2.3.77",
            "1.3.77.1",
            "1.+3.77",
            "1.70000.1",
            "1.1.281474976710656",
            "1.3.7é",
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(NoToken), "{wrong}");
        }
        assert_eq!(format!("1.3.{}", "0".repeat(40)).parse::<Token>(), Err(NoToken));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(bits in any::<u64>()) {
            let token = Token::AtLeast(Version::from_bits(bits));
            prop_assert!(token.to_string().len() <= TOKEN_BYTES_MAX);
            prop_assert_eq!(token.to_string().parse::<Token>(), Ok(token));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            for text in [text.clone(), format!("1.{text}")] {
                if let Ok(token) = text.parse::<Token>() {
                    prop_assert_eq!(token.to_string().parse::<Token>(), Ok(token));
                }
            }
        }
    }
}
