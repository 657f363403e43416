//! The README works: every block that is marked as runnable is run.

use std::{env, ffi::OsString, fs, os::unix::fs::symlink, path::Path};

use e2e::servers::mcsqueal_binary;
use tokio::process::Command;

use crate::support::{enter, output, repository};

#[tokio::test(flavor = "multi_thread")]
async fn readme_blocks() {
    let Some(lab) = enter("readme_blocks", &["mcsqueal"]).await else { return };
    let readme = fs::read_to_string(repository().join("README.md")).expect("a README");
    let blocks = runnable(&readme);
    assert!(!blocks.is_empty(), "the README has no runnable block");
    let directory = lab.servers.directory().join("readme");
    fs::create_dir(&directory).expect("a directory");
    // What a reader in the checkout sees; nothing may be written there.
    symlink(repository().join("region-configs"), directory.join("region-configs")).expect("a link");
    let path = path_with(&mcsqueal_binary().expect("it was there a moment ago"));
    for (line, block) in blocks {
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", &block]).current_dir(&directory).env("PATH", &path);
        let output = output(&mut shell).await.expect("the block ends");
        let shown = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "README.md:{line}: {}\n{shown}\n{errors}", output.status);
    }
}

/// The search path, with the folder of `binary` first.
fn path_with(binary: &Path) -> OsString {
    let folder = binary.parent().expect("a program is in a folder").to_owned();
    let rest = env::var_os("PATH").unwrap_or_default();
    let all = [folder].into_iter().chain(env::split_paths(&rest));
    env::join_paths(all).expect("no folder has a colon in its name")
}

/// Line and text of each fenced block whose info string has the word `runnable`. In `console` blocks
/// only what follows a prompt is a command.
fn runnable(markdown: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let words: Vec<&str> = info.split_whitespace().collect();
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let body: Vec<&str> = body.collect();
        if words.contains(&"runnable") {
            let commands = match words.first() {
                Some(&"console") => {
                    body.iter().filter_map(|line| line.strip_prefix("$ ")).collect::<Vec<_>>()
                }
                _ => body,
            };
            blocks.push((at + 1, commands.join("\n")));
        }
    }
    blocks
}

#[test]
fn blocks_of_a_page() {
    let page = "a\n```sh runnable\nx \\\n  y\n```\n```sh\nno\n```\n```console runnable\n$ one\nout\n$ two\n```\n";
    let found = runnable(page);
    assert_eq!(found, [(2, "x \\\n  y".to_owned()), (9, "one\ntwo".to_owned())]);
}
