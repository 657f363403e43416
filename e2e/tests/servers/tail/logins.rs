//! Ways to log in and to encrypt: each for the questions, which a library asks, and for the dump, which we ask.

use std::path::PathBuf;

use e2e::servers::{Database, Kind};
use schemas::config::Address;
use tailer::{Password, Settings, Tls};

use super::{
    book::Book,
    tailing::{Tailing, database, settings},
};
use crate::support::{enter, repository, skip};

/// Long and not ASCII.
const PASSWORD: &str = "pässwörd-0123456789-0123456789-0123456789";

/// Certificates for tests: `database.pem` is for 127.0.0.1 and localhost, signed by `database-ca.pem`.
fn fixture(name: &str) -> PathBuf {
    repository().join("e2e/fixtures").join(name)
}

fn tls_options() -> Vec<String> {
    [("ca", "database-ca.pem"), ("cert", "database.pem"), ("key", "database.key")]
        .map(|(option, file)| format!("--ssl-{option}={}", fixture(file).display()))
        .to_vec()
}

fn required(ca_file: &str) -> Tls {
    Tls::Required { ca_file: Some(fixture(ca_file)) }
}

fn login(database: &Database, user: &str, tls: Tls) -> Settings {
    let password = Password(PASSWORD.to_owned());
    Settings { user: user.to_owned(), password, tls, ..settings(&database.address(), 4001) }
}

/// Reads a change.
async fn reads(database: &Database, settings: Settings) {
    let about = format!("{} with {:?}", settings.user, settings.tls);
    let mut tailing = Tailing::launch_with(settings, &Book::default());
    tailing.connected().await;
    let outcome = tailing.outcome(database, &["REPLACE INTO users VALUES (1, NULL, '', '')"]).await;
    assert_eq!(outcome, "user:1", "{about}");
    database.run(&["DELETE FROM shop.users"]).await.expect("a change");
}

/// Does not get in, and says why.
async fn fails(settings: Settings, why: &str) {
    let mut tailing = Tailing::launch_with(settings, &Book::default());
    tailing.failed(why).await;
}

/// Makes accounts that log in with each of `plugins`, as `(user, identification)`.
async fn accounts(database: &Database, plugins: &[(&str, String)]) {
    for (user, identified) in plugins {
        let create = format!("CREATE USER '{user}'@'%' IDENTIFIED {identified}");
        let grant =
            format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO '{user}'@'%'");
        database.run(&[&create, &grant]).await.expect("an account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_mysql() {
    let Some(lab) = enter("logins_mysql", &["mysql"]).await else { return };
    let options = tls_options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let database = database(&lab, Kind::Mysql, &options).await;
    super::tailing::tables(&database).await;
    let sha2 = format!("WITH caching_sha2_password BY '{PASSWORD}'");
    accounts(&database, &[("sha2", sha2)]).await;
    for tls in [Tls::Off, required("database-ca.pem")] {
        // The server forgets who has logged in, so that it asks for the whole password.
        database.run(&["FLUSH PRIVILEGES"]).await.expect("a flush");
        reads(&database, login(&database, "sha2", tls.clone())).await;
        // And knows it now.
        reads(&database, login(&database, "sha2", tls)).await;
    }
    certificates(&database, "sha2").await;
    let wrong = Password("wrong".to_owned());
    fails(Settings { password: wrong, ..login(&database, "sha2", Tls::Off) }, "Access denied")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_mariadb() {
    let Some(lab) = enter("logins_mariadb", &["mariadb"]).await else { return };
    let options = tls_options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let database = database(&lab, Kind::Mariadb, &options).await;
    super::tailing::tables(&database).await;
    let mut plugins =
        vec![("native", format!("VIA mysql_native_password USING PASSWORD('{PASSWORD}')"))];
    match database.run(&["INSTALL SONAME 'auth_ed25519'"]).await {
        Ok(()) => {
            plugins.push(("edwards", format!("VIA ed25519 USING PASSWORD('{PASSWORD}')")));
        }
        Err(err) => skip("logins_mariadb with ed25519", "ed25519", &format!("{err:#}")),
    }
    accounts(&database, &plugins).await;
    for (user, _) in &plugins {
        for tls in [Tls::Off, required("database-ca.pem")] {
            reads(&database, login(&database, user, tls)).await;
        }
    }
    certificates(&database, "native").await;
}

/// A certificate of an unknown authority, and one for another name, are refused.
async fn certificates(database: &Database, user: &str) {
    let unknown = login(database, user, required("other-ca.pem"));
    fails(unknown, "certificate").await;
    let by_name = login(database, user, required("database-ca.pem"));
    let localhost = Address { host: "localhost".to_owned(), port: database.port() };
    reads(database, Settings { address: localhost, ..by_name.clone() }).await;
    let other_name = Address { host: "127.0.0.2".to_owned(), port: database.port() };
    fails(Settings { address: other_name, ..by_name }, "").await;
}
