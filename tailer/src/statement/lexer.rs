//! SQL text cut into names and the few other things that [`super`] looks at. Never fails.

use std::{iter::Peekable, str::Chars};

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or a name without quotes.
    Word(String),
    /// A name in backticks or double quotes.
    Quoted(String),
    /// `.`
    Dot,
    /// Anything else: numbers, strings, operators.
    Other,
}

impl Token {
    /// In lower case, if it can be a keyword.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Token::Word(word) => Some(word.to_ascii_lowercase()),
            Token::Quoted(_) | Token::Dot | Token::Other => None,
        }
    }

    /// If it can be a name.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            Token::Dot | Token::Other => None,
        }
    }

    /// A name in an encoding that was not understood could be any.
    pub(super) fn is_unreadable(&self) -> bool {
        self.name().is_some_and(|name| name.contains(char::REPLACEMENT_CHARACTER))
    }
}

/// What a backslash is in strings; the session's `sql_mode` says it, and we do not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// It takes away the meaning of the character behind it.
    Backslash,
    /// It is a character like others (`NO_BACKSLASH_ESCAPES`).
    None,
}

/// Iterates over the tokens of a text.
pub(super) struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    escapes: Escapes,
    /// Inside of an executable comment, whose `*/` means nothing.
    executable: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, escapes: Escapes) -> Lexer<'a> {
        Lexer { chars: text.chars().peekable(), escapes, executable: false }
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.chars.next_if_eq(&wanted).is_some()
    }

    fn skip_line(&mut self) {
        for char in self.chars.by_ref() {
            if char == '\n' {
                break;
            }
        }
    }

    /// After `/*`.
    fn comment(&mut self) {
        let mut ahead = self.chars.clone();
        let executable = match ahead.next() {
            Some('!') => true,
            Some('M') => ahead.next() == Some('!'),
            _ => false,
        };
        if executable {
            self.chars = ahead;
            self.executable = true;
            while self.chars.next_if(char::is_ascii_digit).is_some() {} // The server version.
            return;
        }
        while let Some(char) = self.chars.next() {
            if char == '*' && self.eat('/') {
                break;
            }
        }
    }

    /// After the opening quote. Doubled, it stands for itself.
    fn quoted(&mut self, quote: char) -> String {
        let mut text = String::new();
        while let Some(char) = self.chars.next() {
            if char == quote && !self.eat(quote) {
                break;
            }
            if char == '\\' && quote != '`' && self.escapes == Escapes::Backslash {
                text.extend(self.chars.next());
            } else {
                text.push(char);
            }
        }
        text
    }

    fn word(&mut self, first: char) -> Token {
        let mut word = String::from(first);
        while let Some(char) = self.chars.next_if(|char| is_name(*char)) {
            word.push(char);
        }
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            Token::Other
        } else {
            Token::Word(word)
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        while let Some(char) = self.chars.next() {
            match char {
                _ if char.is_whitespace() => {}
                '/' if self.eat('*') => self.comment(),
                '*' if self.executable && self.eat('/') => self.executable = false,
                '#' => self.skip_line(),
                '-' if self.chars.peek() == Some(&'-') => {
                    let mut ahead = self.chars.clone();
                    ahead.next();
                    if ahead.next().is_none_or(|after| after.is_whitespace() || after.is_control())
                    {
                        self.skip_line();
                    } else {
                        return Some(Token::Other);
                    }
                }
                '\'' => {
                    self.quoted('\'');
                    return Some(Token::Other);
                }
                '`' | '"' => return Some(Token::Quoted(self.quoted(char))),
                '.' => return Some(Token::Dot),
                _ if is_name(char) => return Some(self.word(char)),
                _ => return Some(Token::Other),
            }
        }
        None
    }
}

/// Letters, digits, `$`, `_`, and everything beyond ASCII.
fn is_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == '$' || !char.is_ascii()
}
