//! What the tests on real servers share: skipping, how long to go on, and who may run beside whom.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::Command,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use crate::{
    random::Random,
    servers::{Kind, Region, Servers, mcsqueal_binary},
};

/// Names of what must not be missing, separated by commas.
const REQUIRE_ENV: &str = "MCSQUEAL_REQUIRE";
/// If it is 1, everything is repeated ten times as often.
const LONG_ENV: &str = "MCSQUEAL_LONG";
/// Programs that are asked one question answer within this.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);
/// How often something that is waited for is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Tests with whole sets of servers at one time. A test that measures latency takes all the places.
const PLACES: u32 = 2;
static FLOOR: Semaphore = Semaphore::const_new(PLACES as usize);

/// What a test may use while it holds this.
pub struct Lab {
    pub servers: Servers,
    _place: SemaphorePermit<'static>,
}

/// Enters the lab, or says why `test` is skipped. `needs` are names of the manifest, or `mcsqueal`.
pub async fn enter(test: &str, needs: &[&str]) -> Option<Lab> {
    enter_with(test, needs, 1).await
}

/// The same, with nobody else in the lab.
pub async fn enter_alone(test: &str, needs: &[&str]) -> Option<Lab> {
    enter_with(test, needs, PLACES).await
}

async fn enter_with(test: &str, needs: &[&str], places: u32) -> Option<Lab> {
    let servers = Servers::from_env().expect("the environment names servers");
    for &need in needs {
        let missing = match need {
            "mcsqueal" => mcsqueal_binary().err().map(|err| format!("{err:#}")),
            _ if servers.manifest().program(need).is_some() => None,
            _ => Some(format!("there is no {need} on this machine")),
        };
        if let Some(reason) = missing {
            skip(test, need, &reason);
            return None;
        }
    }
    let place = FLOOR.acquire_many(places).await.expect("the floor is never closed");
    Some(Lab { servers, _place: place })
}

/// Says that `test` is skipped for lack of `need`; fails where that must not be.
pub fn skip(test: &str, need: &str, reason: &str) {
    let required = env::var(REQUIRE_ENV).unwrap_or_default();
    let required = required.split(',').any(|name| name.trim() == need);
    assert!(!required, "{REQUIRE_ENV} names {need}, but: {reason}");
    // Past the capture of the test's output, to whoever counts.
    writeln!(io::stderr(), "skipped: {test}: {reason}").expect("standard error can be written");
}

/// Whether this is a long run.
pub fn is_long() -> bool {
    env::var(LONG_ENV).is_ok_and(|value| value == "1")
}

/// `count` in a long run, else a tenth of it, but at least one.
pub fn tenth_unless_long(count: u32) -> u32 {
    if is_long() { count } else { (count / 10).max(1) }
}

/// Randomness of a test; the seed is shown if it fails.
pub fn random(stream: u64) -> Random {
    let seed = env::var("MCSQUEAL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    #[expect(clippy::print_stderr, reason = "shown only when the test fails")]
    {
        eprintln!("MCSQUEAL_SEED={seed}");
    }
    Random::new(seed, stream)
}

/// What a test of both dialects needs.
pub fn needs_of(kind: Kind) -> [&'static str; 3] {
    [kind.name(), "memcached", "mcsqueal"]
}

/// The same, with the stream on Kafka.
pub fn needs_on_kafka(kind: Kind) -> [&'static str; 4] {
    let [database, cache, ours] = needs_of(kind);
    [database, cache, ours, "kafka"]
}

/// Runs `mcsqueal` with `arguments` and the region file of `region`, in `directory`.
pub async fn mcsqueal(region: &Region, directory: &Path, command: &[&str]) -> Result<Output> {
    let config = region.write(directory)?;
    let mut process = Command::new(mcsqueal_binary()?);
    process.args(command).arg("--config").arg(config).envs(region.env());
    output(process.current_dir(directory)).await
}

/// Runs a command to its end; kills it and fails if that takes too long.
pub async fn output(command: &mut Command) -> Result<Output> {
    let running = command.kill_on_drop(true).output();
    match timeout(COMMAND_DEADLINE, running).await {
        Ok(output) => output.with_context(|| format!("run {command:?}")),
        Err(_) => bail!("{command:?} did not end within {COMMAND_DEADLINE:?}"),
    }
}

/// Returns once `holds` is true; fails if that takes longer than `deadline`.
pub async fn until(what: &str, deadline: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let late = Instant::now() + deadline;
    while !holds().await {
        assert!(Instant::now() < late, "waited {deadline:?} in vain until {what}");
        sleep(POLL).await;
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("this crate is a folder of the repository").to_owned()
}
