//! The files of `docker/`: they are read as their readers read them, as far as that can be had here, and speak of nothing that is not there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use e2e::{http, lab::repository, servers::CacheNode};
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
