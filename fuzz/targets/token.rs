//! Tokens, as users bring them: never a panic, and what parses is printed so that it parses again.
#![no_main]

use client::Token;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
});
