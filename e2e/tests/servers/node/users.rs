//! Who may do what: users of a file in memcached's form, and of our own with rights by prefix.

use std::time::Duration;

use super::wire::Wire;
use crate::support::{enter, output, until};

const NEEDS: [&str; 1] = ["mcsqueal"];
const DEADLINE: Duration = Duration::from_secs(10);
const DENIED: &str = "CLIENT_ERROR access denied\r\n";

/// A node file with three users, whose passwords are in files beside it.
const USERS: &str = r#"
[[user]]
name = "shop"
password_file = "shop.password"
grants = [{ prefix = "", rights = ["read"] }, { prefix = "shop:", rights = ["read", "write"] }]

[[user]]
name = "writer"
password_file = "writer.password"
grants = [{ prefix = "log:", rights = ["write"] }]

[[user]]
name = "operator"
password_file = "operator.password"
grants = [{ rights = ["admin"] }]
"#;

#[tokio::test]
async fn users_of_memcacheds_file_log_in() {
    let Some(lab) = enter("users_of_memcacheds_file_log_in", &NEEDS).await else { return };
    let file = lab.servers.directory().join("users");
    std::fs::write(&file, "bob:other\nann:secret\n").expect("write a file");
    let path = file.display().to_string();
    let node = lab.servers.cache_node(&["-Y", &path]).await.expect("the node starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    let requests = [
        "get a",
        "mg a v",
        "set x 0 0 9\r\nann wrong",
        "set x 0 0 9\r\nannsecret",
        "set x 0 0 10\r\nann secret",
        "set a 0 0 1\r\n1",
        "get a",
        "quit",
    ];
    let bytes = requests.join("\r\n") + "\r\n";
    wire.send(bytes.as_bytes()).await.expect("it is sent");
    let answers = wire.rest().await.expect("the end");
    assert_eq!(
        String::from_utf8_lossy(&answers),
        "CLIENT_ERROR unauthenticated\r\n\
         CLIENT_ERROR unauthenticated\r\n\
         CLIENT_ERROR authentication failure\r\n\
         CLIENT_ERROR bad authentication token format\r\n\
         STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"
    );
    // Others from now on, without a restart; what is wrong changes nothing.
    let login = async |password: &str| {
        let mut wire = Wire::connect(&node.address()).await.expect("connect");
        let login = format!("set x 0 0 {}\r\nann {password}\r\n", 4 + password.len());
        wire.answer(login.as_bytes(), "STORED\r\n".len()).await == "STORED\r\n"
    };
    std::fs::write(&file, "ann:another\n").expect("write a file");
    assert!(login("secret").await);
    node.hang_up().expect("SIGHUP");
    until("the file is taken up", DEADLINE, async || login("another").await).await;
    assert!(!login("secret").await);
    std::fs::write(&file, "nobody\n").expect("write a file");
    node.hang_up().expect("SIGHUP");
    until("the file is refused", DEADLINE, async || {
        node.log().is_ok_and(|log| log.contains("the file is refused"))
    })
    .await;
    assert!(login("another").await);
}

#[tokio::test]
async fn rights_are_by_prefix() {
    let Some(lab) = enter("rights_are_by_prefix", &NEEDS).await else { return };
    let folder = lab.servers.directory();
    for user in ["shop", "writer", "operator"] {
        let password = format!("{user}-secret\n");
        std::fs::write(folder.join(format!("{user}.password")), password).expect("write a file");
    }
    let file = folder.join("node.toml");
    std::fs::write(&file, USERS).expect("write a file");
    let path = file.display().to_string();
    let node = lab.servers.cache_node(&["--config", &path]).await.expect("the node starts");
    let table: [(&str, &[(&str, &str)]); 3] = [
        (
            "shop",
            &[
                ("set shop:1 0 0 1\r\n1", "STORED\r\n"),
                ("get shop:1 log:1", "VALUE shop:1 0 1\r\n1\r\nEND\r\n"),
                ("set log:1 0 0 1\r\n1", DENIED),
                ("ms log:1 1\r\n1", DENIED),
                ("delete log:1", DENIED),
                // It would make an entry.
                ("mg log:1 N30", DENIED),
                ("flush_all", DENIED),
                ("stats cachedump 1 0", DENIED),
            ],
        ),
        (
            "writer",
            &[
                ("set log:1 0 0 1\r\n1", "STORED\r\n"),
                ("get log:1", DENIED),
                ("get shop:1 log:1", DENIED),
                ("incr log:1 1", "2\r\n"),
                ("touch shop:1 1", DENIED),
            ],
        ),
        ("operator", &[("get shop:1", DENIED), ("verbosity 1", "OK\r\n"), ("flush_all", "OK\r\n")]),
    ];
    for (user, requests) in table {
        let mut wire = Wire::connect(&node.address()).await.expect("connect");
        let login = format!("{user} {user}-secret");
        let login = format!("set login 0 0 {}\r\n{login}\r\n", login.len());
        for (request, answer) in [(login.trim_end(), "STORED\r\n")].iter().chain(requests) {
            let bytes = format!("{request}\r\n");
            assert_eq!(
                wire.answer(bytes.as_bytes(), answer.len()).await,
                *answer,
                "{user}: {request}"
            );
        }
    }
    // Over HTTP too.
    let side = node.http().expect("a side port");
    for (login, path, expected) in [
        ("shop:shop-secret", "shop:1", "200"),
        ("writer:writer-secret", "shop:1", "403"),
        ("writer:wrong", "log:1", "401"),
    ] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", login]);
        let answer = output(curl.arg(format!("http://{side}/cache/{path}"))).await.expect("curl");
        assert_eq!(String::from_utf8_lossy(&answer.stdout), expected, "{login} {path}");
    }
}
