//! The codec of a relay: commands towards nodes ([`request`]), where each reply ends and what it says ([`cut`]), and the reply as its
//! client must see it ([`answer`]). Pure: bytes in, bytes out.

pub mod answer;
pub mod cut;
pub mod request;
#[cfg(test)]
mod tests;
