//! Properties of the source text that no other tool checks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

const FILE_LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 80;

/// Every complaint, as `file:line: what`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for file in tracked(root)? {
        let Ok(text) = fs::read_to_string(root.join(&file)) else { continue };
        let name = file.display().to_string();
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("rs") if !name.ends_with("generated.rs") => check_rust(&name, &text, &mut out),
            Some("md") => check_links(root, &file, &text, &mut out),
            Some("toml") if !text.ends_with('\n') => {
                out.push(format!("{name}: does not end with a line end"));
            }
            _ => {}
        }
    }
    Ok(out)
}

/// What git tracks; outside a checkout nothing is checked.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output =
        Command::new("git").arg("-C").arg(root).args(["ls-files"]).output().context("run git")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

fn check_rust(name: &str, text: &str, out: &mut Vec<String>) {
    if !text.starts_with("//!") {
        out.push(format!("{name}:1: open with a `//!` line: what the module is for"));
    }
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    let lines_max = if name.ends_with("main.rs") && !name.contains("tests/") {
        MAIN_LINES_MAX
    } else {
        FILE_LINES_MAX
    };
    if text.get(..tests).unwrap_or(text).lines().count() > lines_max {
        out.push(format!("{name}: over {lines_max} lines before its tests"));
    }
    for (at, line) in text.lines().enumerate() {
        if let Some(what) = check_line(line.trim()) {
            out.push(format!("{name}:{}: {what}", at + 1));
        }
    }
}

fn check_line(line: &str) -> Option<&'static str> {
    let words: [(&str, &str); 4] = [
        (concat!("FIX", "ME"), "a left-over mark"),
        (concat!("TO", "DO"), "write an issue instead"),
        (concat!("#[ign", "ore"), "a test that does not run"),
        (concat!("#[should_", "panic"), "say which panic, with catch_unwind"),
    ];
    if line.starts_with("matches!(") && line.ends_with(");") {
        return Some("`matches!` as a statement checks nothing");
    }
    words.iter().find(|(word, _)| line.contains(word)).map(|(_, what)| *what)
}

/// Links to files of ours lead somewhere.
fn check_links(root: &Path, file: &Path, text: &str, out: &mut Vec<String>) {
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let path = target.split('#').next().unwrap_or(target);
        let ours = !path.is_empty() && !path.contains(':');
        let folder = root.join(file).parent().map(Path::to_owned).unwrap_or_default();
        if ours && !folder.join(path).exists() {
            out.push(format!("{}: the link {target} leads nowhere", file.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_bite() {
        assert!(check_line("matches!(result, Err(_));").is_some());
        assert!(check_line(concat!("// FIX", "ME")).is_some());
        assert!(check_line(concat!("// TO", "DO: later")).is_some());
        assert!(check_line("assert!(matches!(result, Err(_)));").is_none());
        let mut out = Vec::new();
        check_rust("a.rs", "fn a() {}\n", &mut out);
        assert_eq!(out, ["a.rs:1: open with a `//!` line: what the module is for"]);
    }
}
