//! The files of `docker/`: they are read as their readers read them, as far as that can be had here, and speak of nothing that is not there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use e2e::{
    http,
    lab::repository,
    servers::{CacheNode, mcsqueal_binary},
};
use serde_json::Value;
use tokio::process::Command;
use yaml_rust2::{Yaml, YamlLoader};

use crate::world::World;

/// What is counted by its cause, and not shown before it has happened once.
const AFTER_THE_FIRST: [&str; 1] = ["mcsqueal_lane_failures_total"];
/// What a series of a histogram or a counter has behind the metric's name.
const SUFFIXES: [&str; 5] = ["_total", "_bucket", "_sum", "_count", "_info"];

#[test]
fn compose_publishes_on_loopback_only_and_limits_memory() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_hash().expect("services");
    assert!(services.len() > 8, "{} services", services.len());
    for (name, service) in services {
        let name = name.as_str().expect("a name");
        for port in whole(service, "ports").into_iter().flatten() {
            let port = port.as_str().expect("text");
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
        assert!(
            merged(service, "mem_limit").is_some(),
            "{name} may take all of the machine's memory"
        );
    }
}

#[test]
fn region_files_and_prometheus_name_services_of_compose() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_hash().expect("services");
    let names: BTreeSet<&str> = services.keys().filter_map(Yaml::as_str).collect();
    let mut named = BTreeSet::new();
    for file in ["shop-a.toml", "shop-b.toml"] {
        let path = repository().join("region-configs").join(file);
        let region = fs::read_to_string(&path).expect("a region file");
        let region = schemas::config::Region::parse(file, &region).expect("a region");
        named.insert(region.source.address.to_string());
        named.extend(region.source.replicas.iter().map(ToString::to_string));
        named.extend(region.relay.from.iter().map(ToString::to_string));
        let nodes = region.clusters.iter().flat_map(|cluster| &cluster.nodes);
        named.extend(nodes.map(|node| node.address.to_string()));
    }
    for job in yaml("prometheus.yaml")["scrape_configs"].as_vec().expect("jobs") {
        for part in job["static_configs"].as_vec().expect("targets") {
            let targets = part["targets"].as_vec().expect("targets").iter();
            named.extend(targets.map(|target| target.as_str().expect("text").to_owned()));
        }
    }
    assert!(named.len() > 10, "{named:?}");
    for address in named {
        let (host, _) = address.split_once(':').expect("host and port");
        assert!(names.contains(host), "{address} is no service of compose.yaml");
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let alerts = yaml("alerts.yaml");
    let rules = alerts["groups"][0]["rules"].as_vec().expect("rules");
    assert!(rules.len() > 8, "{} rules", rules.len());
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        for key in ["summary", "runbook"] {
            assert!(rule["annotations"][key].as_str().is_some(), "{name} has no {key}");
        }
        assert!(rule["expr"].as_str().is_some(), "{name} has no expression");
        assert!(rule["labels"]["severity"].as_str().is_some(), "{name} has no severity");
    }
}

#[test]
fn what_compose_mounts_and_keeps_secret_is_there() {
    let compose = yaml("compose.yaml");
    let mut named = Vec::new();
    for (_, secret) in compose["secrets"].as_hash().expect("secrets") {
        named.push(secret["file"].as_str().expect("a file").to_owned());
    }
    for (_, service) in compose["services"].as_hash().expect("services") {
        for volume in whole(service, "volumes").into_iter().flatten() {
            let (from, _) = volume.as_str().expect("text").split_once(':').expect("two places");
            if from.starts_with('.') {
                named.push(from.to_owned());
            }
        }
    }
    assert!(named.len() > 10, "{named:?}");
    for path in named {
        assert!(docker(&path).exists(), "compose.yaml names {path}, which is not in docker/");
    }
}

/// Of our own services: the subcommand, each option, and the file that it names.
#[tokio::test]
async fn the_binary_understands_what_compose_tells_it() {
    let Ok(binary) = mcsqueal_binary() else {
        let test = "the_binary_understands_what_compose_tells_it";
        e2e::lab::skip(test, "mcsqueal", "there is no binary");
        return;
    };
    let mut told = BTreeSet::new();
    for (name, service) in yaml("compose.yaml")["services"].as_hash().expect("services") {
        if merged(service, "image").and_then(Yaml::as_str) != Some("mcsqueal") {
            continue;
        }
        let words = whole(service, "command").expect("a command");
        let words: Vec<&str> = words.iter().map(|word| word.as_str().expect("text")).collect();
        let secrets = whole(service, "secrets").unwrap_or_default();
        let config = words.iter().find_map(|word| word.strip_prefix("/etc/mcsqueal/"));
        let path = repository().join("region-configs").join(config.expect("a file"));
        let text = fs::read_to_string(&path).expect("it is there");
        // What it reads from `/run/secrets` it was given.
        for rest in text.lines().filter(|line| !line.starts_with('#')) {
            for secret in rest.split("/run/secrets/").skip(1) {
                let secret = secret.split('"').next().expect("a name");
                let given = secrets.iter().any(|it| it.as_str() == Some(secret));
                assert!(given, "{name:?} reads the secret {secret:?}, and is not given it");
            }
        }
        told.insert(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    }
    assert!(told.len() >= 3, "{told:?}");
    for words in told {
        let (subcommand, options) = words.split_first().expect("a subcommand");
        let help = Command::new(&binary).args([subcommand, "--help"]).output().await;
        let help = help.expect("it runs");
        assert!(help.status.success(), "there is no {subcommand}");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for option in options.iter().filter(|word| word.starts_with("--")) {
            let known = help.split([' ', '\n', ',']).any(|word| word == option);
            assert!(known, "{subcommand} does not know {option}");
        }
    }
}

/// The image cannot be built where no registry is reached: so what it copies, builds and starts is looked at.
#[test]
fn the_image_is_made_of_what_there_is() {
    let lines = fs::read_to_string(docker("Dockerfile")).expect("a Dockerfile");
    let line = |verb: &str| {
        let found = lines.lines().filter_map(|line| line.strip_prefix(verb));
        found.map(|rest| rest.trim().to_owned()).collect::<Vec<_>>()
    };
    let build =
        line("RUN ").into_iter().find(|run| run.starts_with("cargo build")).expect("a build");
    let after = |option: &str| {
        let rest = build.split_once(option).expect(option).1;
        rest.split_whitespace().next().expect("a name").to_owned()
    };
    let (package, bin) = (after("--package "), after("--bin "));
    let manifest = repository().join(&package).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the package's manifest");
    assert!(manifest.contains(&format!("[[bin]]\nname = \"{bin}\"")), "{package} has no {bin}");
    assert!(build.contains("--locked") && repository().join("Cargo.lock").exists());
    let copied = line("COPY --from=build ");
    assert_eq!(copied, [format!("/build/target/release/{bin} /usr/local/bin/{bin}")]);
    assert_eq!(line("ENTRYPOINT "), [format!("[\"{bin}\"]")]);
    assert_eq!((line("WORKDIR "), line("COPY . ")), (vec!["/build".into()], vec![".".into()]));
}

/// Where the engine's client knows compose files, it reads ours.
#[tokio::test]
async fn compose_itself_reads_the_file() {
    let path = repository().join("docker/compose.yaml");
    let compose = async |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.arg("compose").args(arguments).output().await
    };
    if !compose(&["version"]).await.is_ok_and(|said| said.status.success()) {
        e2e::lab::skip("compose_itself_reads_the_file", "compose", "there is no docker compose");
        return;
    }
    let path = path.display().to_string();
    let said = compose(&["--file", &path, "config", "--quiet"]).await.expect("it runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Every metric of dashboards and alert rules is one that daemons and nodes have.
pub(crate) async fn speak_of_metrics_that_exist(world: &World) {
    let mut pages = String::new();
    let nodes = world.b.clusters[0].nodes.iter().filter_map(CacheNode::http);
    let daemons = [world.a.mcsqueal.http(), world.b.mcsqueal.http()];
    for address in daemons.into_iter().flatten().chain(nodes) {
        pages += &http::get(address, "/metrics").await.expect("metrics").1;
    }
    let types = pages.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let known: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let named = metrics_of_files();
    assert!(named.len() > 20, "{named:?}");
    for name in &named {
        let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_known = known.contains(name.as_str())
            || base.is_some_and(|it| known.contains(it))
            || AFTER_THE_FIRST.contains(&name.as_str());
        assert!(is_known, "{name} is in docker/, and nowhere else");
    }
}

/// The names in dashboards and alert rules.
fn metrics_of_files() -> BTreeSet<String> {
    let mut expressions = Vec::new();
    for file in fs::read_dir(docker("grafana/dashboards")).expect("dashboards") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a dashboard");
        let board: Value = serde_json::from_str(&text).expect("JSON");
        for panel in board["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("targets") {
                expressions.push(target["expr"].as_str().expect("an expression").to_owned());
            }
        }
    }
    for rule in yaml("alerts.yaml")["groups"][0]["rules"].as_vec().expect("rules") {
        expressions.push(rule["expr"].as_str().expect("an expression").to_owned());
    }
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = expressions.iter().flat_map(|text| text.split(|char| !is_part(char)));
    words.filter(|word| word.starts_with("mcsqueal_")).map(str::to_owned).collect()
}

/// A list of a service, in itself or in what it is merged from.
fn whole(service: &Yaml, key: &str) -> Option<Vec<Yaml>> {
    merged(service, key)?.as_vec().cloned()
}

fn merged<'a>(service: &'a Yaml, key: &str) -> Option<&'a Yaml> {
    match &service[key] {
        Yaml::BadValue if service["<<"].is_badvalue() => None,
        Yaml::BadValue => merged(&service["<<"], key),
        found => Some(found),
    }
}

fn yaml(file: &str) -> Yaml {
    let text = fs::read_to_string(docker(file)).expect("a file");
    let mut documents = YamlLoader::load_from_str(&text).expect("YAML");
    assert_eq!(documents.len(), 1, "{file}");
    documents.remove(0)
}

fn docker(file: impl AsRef<Path>) -> PathBuf {
    repository().join("docker").join(file)
}
