//! The recipes of the documentation, run as they stand: own writes are read while the replica stands still.

use std::{ffi::OsString, path::Path};

use e2e::{
    lab::Lab,
    servers::{Kind, Link},
};
use tokio::process::Command;

use super::{DEADLINE, client_of, is_cached, read};
use crate::{
    support::{enter_alone, output, repository, until},
    versions::Stage,
};

const VERSIONS: &str = "marker_ttl_ms_max = 5000\nfill_age_ms_max = 2000";
const MYSQL_DRIVER: &str = "github.com/go-sql-driver/mysql@v1.9.3";

/// A program of the manifest, with its first arguments.
fn program(lab: &Lab, name: &str) -> Vec<OsString> {
    lab.servers.manifest().program(name).expect("it was there a moment ago").argv.clone()
}

/// A primary, a replica that stands still, and a node that takes fills.
async fn stage(lab: Lab) -> Stage {
    let links = [Link::Plain, Link::Plain];
    let stage = Stage::start(lab, Kind::Mysql, &links, &[1], VERSIONS).await;
    let client = client_of(&stage);
    until("the node takes fills", DEADLINE, async || {
        is_cached(&read(&stage, &client, 59, None).await)
    })
    .await;
    stage.chain[1].stop_applying().await.expect("the replica stands still");
    stage
}

/// Runs a command with the stage's addresses behind its arguments.
async fn run(mut command: Command, stage: &mut Stage) {
    let http = stage.mcsqueal.http().expect("a side port");
    command.arg(stage.node.address()).arg(format!("http://{http}/epochs"));
    command.args(stage.chain.iter().map(|server| server.port().to_string()));
    let output = output(&mut command).await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.trim() == "ok", "{said}\n{errors}");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_for_python_works() {
    let test = "the_recipe_for_python_works";
    let Some(lab) = enter_alone(test, &["python", "mysql", "mcsqueal"]).await else { return };
    let python = program(&lab, "python");
    let mut stage = stage(lab).await;
    let mut command = Command::new(&python[0]);
    command.args(&python[1..]).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(repository().join("e2e/python/look_aside_recipe.py"));
    command.arg(repository().join("docs/recipes"));
    run(command, &mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_for_go_works() {
    let test = "the_recipe_for_go_works";
    let Some(lab) = enter_alone(test, &["go", "mysql", "mcsqueal"]).await else { return };
    let go = program(&lab, "go");
    let folder = lab.servers.directory().join("recipe");
    copy(&folder);
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&go[0]);
        command.args(&go[1..]).args(arguments).current_dir(&folder).env("GOFLAGS", "-mod=mod");
        command
    };
    for arguments in
        [&["get", MYSQL_DRIVER][..], &["vet", "./..."], &["build", "-o", "recipe", "."]]
    {
        let output = output(&mut command(arguments)).await.expect("go runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "go {arguments:?}: {errors}");
    }
    let mut stage = stage(lab).await;
    run(Command::new(folder.join("recipe")), &mut stage).await;
}

/// The recipe, and the program that runs it, as one module.
fn copy(folder: &Path) {
    std::fs::create_dir_all(folder.join("lookaside")).expect("make a folder");
    std::fs::write(folder.join("go.mod"), "module recipes\n\ngo 1.24\n").expect("write a file");
    for (from, to) in
        [("docs/recipes/go/lookaside.go", "lookaside/lookaside.go"), ("e2e/go/main.go", "main.go")]
    {
        std::fs::copy(repository().join(from), folder.join(to)).expect("copy a file");
    }
}
