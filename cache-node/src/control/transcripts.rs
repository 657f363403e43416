//! The conversations that `docs/clients.md` tells, with a node: what it answers is what the page says.

use std::{collections::HashMap, time::Duration};

use super::{
    session::Session,
    tests::{Stage, rules_settings},
};
use crate::rules::OnStale;

const PAGE: &str = include_str!("../../../docs/clients.md");
/// What the page's writers and readers call the version of their write: 1.44.
const WRITTEN: &str = "V281474976710700";

/// A line of a conversation: what is said or answered, and what happens meanwhile.
#[derive(Debug)]
struct Line {
    answered: bool,
    text: String,
    note: String,
}

fn conversation(number: usize) -> Vec<Line> {
    let (_, told) = PAGE.split_once("## Conversations").expect("conversations");
    let block = told.split("```text\n").nth(number).expect("one more");
    let (block, _) = block.split_once("```").expect("an end");
    let line = |line: &str| {
        let answered = line.starts_with('<');
        let rest = line.get(2..).unwrap_or_default();
        let (text, note) = rest.split_once("   ").unwrap_or((rest, ""));
        Line { answered, text: text.trim().to_owned(), note: note.trim().to_owned() }
    };
    block.lines().map(line).collect()
}

/// Tells a conversation; `happens` makes of the stage what notes and the order of requests, from 0, say: before the request.
fn tell(number: usize, stage: &mut Stage, mut happens: impl FnMut(&mut Stage, &str, usize)) {
    let lines = conversation(number);
    // The page's numbers, and the node's.
    let mut numbers: HashMap<String, String> = HashMap::new();
    let (mut at, mut request) = (0, 0);
    while at < lines.len() {
        let mut says = String::new();
        while let Some(line) = lines.get(at).filter(|line| !line.answered) {
            if line.text.is_empty() || !line.note.is_empty() {
                happens(stage, &line.note, request);
            }
            let word = |word: &str| {
                let named = word.strip_prefix('C').and_then(|number| numbers.get(number));
                named.map_or(word.to_owned(), |number| format!("C{number}"))
            };
            let words: Vec<String> = line.text.split(' ').map(word).collect();
            if !line.text.is_empty() {
                says.extend([&*words.join(" "), "\r\n"]);
            }
            at += 1;
        }
        happens(stage, "", request);
        let said = stage.ask(&says);
        request += 1;
        let mut said = said.trim_end_matches('|').split('|');
        let mut last = String::new();
        while let Some(line) = lines.get(at).filter(|line| line.answered) {
            if !line.text.is_empty() || line.note.is_empty() {
                let answer = said.next().unwrap_or_default();
                for (told, word) in line.text.split(' ').zip(answer.split(' ')) {
                    if let (Some(told), Some(word)) =
                        (told.strip_prefix('c'), word.strip_prefix('c'))
                    {
                        numbers.entry(told.to_owned()).or_insert_with(|| word.to_owned());
                    }
                }
                let cas = |word: &str| {
                    let number = word.strip_prefix('c').and_then(|told| numbers.get(told));
                    number.map_or(word.to_owned(), |number| format!("c{number}"))
                };
                let expected: Vec<String> = line.text.split(' ').map(cas).collect();
                assert_eq!(answer, expected.join(" "), "{says:?} in conversation {number}");
            }
            last.clone_from(&line.note);
            at += 1;
        }
        assert_eq!(said.next(), None, "{says:?} in conversation {number}");
        happens(stage, &last, request);
    }
}

fn deleted(stage: &Stage, lane: &mut Session, key: &str) {
    let said = stage.say(lane, &format!("batch 0 1:6 1:7 2 1.10\nd {key}\na\n"));
    assert!(said.starts_with("ok "), "{said}");
}

#[test]
fn one_fills_and_another_one_waits() {
    let (mut stage, _lane) = Stage::attached_with(rules_settings());
    tell(1, &mut stage, |_, _, _| {});
}

#[test]
fn a_row_changes_while_its_reader_is_slow() {
    let (mut stage, mut lane) = Stage::attached_with(rules_settings());
    tell(2, &mut stage, |stage, note, _| {
        if note.contains("the delete arrives") {
            deleted(stage, &mut lane, "user:1");
        }
    });
}

#[test]
fn the_replicas_are_behind() {
    let (mut stage, mut lane) = Stage::attached_with(rules_settings());
    deleted(&stage, &mut lane, "user:1");
    stage.say(&mut lane, "push 1.9 1.10 1.10 0.0 1\n");
    tell(3, &mut stage, |_, _, _| {});
}

#[test]
fn a_value_is_old() {
    let (mut stage, mut lane) = Stage::attached_with(rules_settings());
    assert_eq!(stage.ask("set user:1 0 0 3\r\nAnn\r\n"), "STORED|");
    deleted(&stage, &mut lane, "user:1");
    stage.say(&mut lane, "push 1.10 1.10 1.10 0.0 1\n");
    tell(4, &mut stage, |_, _, _| {});
}

#[test]
fn a_writer_must_see_his_own_write() {
    let settings = crate::rules::Settings {
        marker_ttl_max: Duration::from_secs(1),
        markers_max: 10,
        ..rules_settings()
    };
    let (mut stage, mut lane) = Stage::attached_with(settings);
    assert_eq!(stage.ask("set user:1 0 0 3\r\nAnn\r\n"), "STORED|");
    tell(5, &mut stage, |stage, note, _| {
        if note.starts_with("UPDATE") {
            stage.say(&mut lane, "push 1.9 1.44 1.44 0.0 1\n");
        } else if note.starts_with("when they have it") {
            stage.say(&mut lane, "push 1.44 1.44 1.44 0.0 1\n");
        }
    });
}

#[test]
fn ones_own_write_and_a_node_without_its_stream() {
    let settings = crate::rules::Settings { on_stale: OnStale::Ttl, ..rules_settings() };
    let (mut stage, _lane) = Stage::attached_with(settings);
    assert_eq!(stage.ask("set user:1 0 0 3\r\nold\r\n"), "STORED|");
    tell(6, &mut stage, |stage, note, request| {
        if request == 1 && note.is_empty() {
            stage.pass(3600);
            assert_eq!(stage.ask(&format!("ms user:1 3 {WRITTEN}\r\nAnn\r\n")), "HD|");
        }
    });
}
