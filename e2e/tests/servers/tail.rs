//! Nothing vanishes: for each way in which a server can write a change, what the tailer makes of it. The tailer runs
//! in this process, in front of a real server; behind it stands a [`book::Book`] in place of the stream.

mod book;
mod changes;
mod faults;
mod logins;
mod modes;
mod promotion;
mod proxy;
mod tailing;
mod texts;
