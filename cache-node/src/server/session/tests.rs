//! Conversations as data: what a client sends, and every byte that comes back. Each is held whole, cut in two at every byte, and
//! byte by byte: the same is answered.

use expect_test::{Expect, expect};
use schemas::moment::Moment;

use super::*;
use crate::{
    access::{Grant, Rights},
    node::{Allowed, Placeholders, Settings},
    store::Eviction,
};

const NOW: Now = Now { moment: Moment::START, unix: 1_000_000 };

fn node(eviction: Eviction) -> Arc<Node> {
    let settings = Settings {
        memory_bytes_max: 8 << 20,
        item_bytes_max: 4 << 20,
        eviction,
        workers: 1,
        placeholders: Placeholders::Hidden,
        prefix_delimiter: b':',
        allowed: Allowed::FLUSH_ALL.with(Allowed::DUMP),
    };
    Arc::new(Node::new(settings, None, 1))
}

/// How a conversation ended.
type Said = (Vec<u8>, Todo);

/// Sends one read after the other, as a connection does, and gathers what is answered.
fn converse(session: &mut Session, reads: &[&[u8]]) -> Said {
    let mut said = Vec::new();
    for bytes in reads {
        session.make_room();
        session.input.extend_from_slice(bytes);
        session.read(bytes.len());
        loop {
            let todo = session.execute(NOW, 1);
            assert!(session.output.len() < 2 * REPLY_BYTES_MAX + (4 << 20), "too much at once");
            said.extend_from_slice(&session.output);
            session.sent();
            match todo {
                Todo::Send => {}
                Todo::Read => break,
                Todo::Close | Todo::Shutdown => return (said, todo),
            }
        }
        assert!(session.input.len() <= session.parser.wanted().max(spare::KEPT_BYTES_MAX));
    }
    (said, Todo::Read)
}

#[test]
fn who_waits_has_no_buffers() {
    let mut session = Session::new(node(Eviction::S3Fifo), 0, Users::default());
    for bytes in [&b"set a 0 0 1 noreply\r\nb\r\n"[..], b"get a\r\n", b"get"] {
        converse(&mut session, &[bytes]);
        session.rest();
        assert_eq!(
            (session.input.capacity() == 0, session.output.capacity()),
            (bytes != b"get", 0)
        );
    }
    assert_eq!(converse(&mut session, &[b" a\r\n"]).0, b"VALUE a 0 1\r\nb\r\nEND\r\n");
}

fn anybody(reads: &[&[u8]]) -> Said {
    let users = Users::default();
    converse(&mut Session::new(node(Eviction::S3Fifo), 0, users), reads)
}

/// Whatever way the bytes are cut, `talk` says the same; returns that.
fn however_cut(bytes: &[u8], talk: impl Fn(&[&[u8]]) -> Said) -> Said {
    let whole = talk(&[bytes]);
    for at in 0..bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(talk(&[first, second]), whole, "cut at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(talk(&single), whole, "byte by byte");
    whole
}

fn check(request: &str, expect: Expect) {
    let (said, _) = however_cut(request.as_bytes(), anybody);
    expect.assert_eq(&String::from_utf8_lossy(&said).replace("\r\n", "|"));
}

#[test]
fn classic_commands() {
    check(
        "set a 5 0 1\r\n1\r\nadd a 0 0 1\r\n2\r\nappend a 0 0 1\r\n3\r\nprepend a 0 0 1\r\n0\r\nreplace b 0 0 1\r\n1\r\n\
         gets a b\r\ncas a 0 0 1 5\r\nx\r\ncas a 0 0 1 5\r\ny\r\ncas b 0 0 1 4\r\ny\r\nget a\r\n",
        expect![
            "STORED|NOT_STORED|STORED|STORED|NOT_STORED|VALUE a 5 3 5|013|END|STORED|EXISTS|NOT_FOUND|VALUE a 0 1|x|END|"
        ],
    );
    check(
        "incr n 1\r\nset n 0 0 2\r\n10\r\nincr n 5\r\ndecr n 6\r\nget n\r\ndecr n 100\r\ntouch n 10\r\ngat 5 n\r\ngats 5 n none\r\n\
         delete n\r\ndelete n 0\r\ntouch n 1\r\nset n 0 0 1\r\nx\r\nincr n 1\r\n",
        expect![
            "NOT_FOUND|STORED|15|9|VALUE n 0 2|9 |END|0|TOUCHED|VALUE n 0 2|0 |END|VALUE n 0 2 5|0 |END|DELETED|NOT_FOUND|NOT_FOUND|STORED|CLIENT_ERROR cannot increment or decrement non-numeric value|"
        ],
    );
}

#[test]
fn meta_commands() {
    check(
        "ms a 1 c F7 T100\r\n1\r\nmg a v f t c k s Oxy\r\nmg none v k Oxy\r\nmg a q\r\nmg none q\r\nma a\r\nms n 2 I\r\n41\r\n\
         ma n v\r\nma n q\r\nmd a I T30\r\nmg a v c t\r\nmg a v\r\nms a 1 C3 c\r\n2\r\nmg a v c\r\nmd a q\r\nmd a q\r\nme a\r\nmn\r\n",
        expect![
            "HD c2|VA 1 f7 t100 c2 ka s1 Oxy|1|EN knone Oxy|HD|HD|HD|VA 2|42|HD|VA 1 c7 t30 X W|2|VA 1 Z X|2|EX c0|VA 1 c7 Z X|2|NF|EN|MN|"
        ],
    );
}

#[test]
fn leases() {
    check(
        "mg a v c N10\r\nmg a v c N10\r\nget a\r\nadd a 0 0 1\r\n1\r\ndelete a\r\nmg a v c N10\r\nms a 1 C2\r\n1\r\nms a 1 C4\r\n2\r\nget a\r\n",
        expect!["VA 0 c2 W||VA 0 c2 Z||END|STORED|DELETED|VA 0 c4 W||EX|HD|VALUE a 0 1|2|END|"],
    );
}

#[test]
fn leases_as_mcrouter_asks_for_them() {
    // One is told to fetch, the others to wait; only the one can store, and only once.
    check(
        "lease-get a b\r\nlease-get a\r\nget a\r\nlease-set a 9 0 0 1\r\nx\r\nlease-set a 2 7 60 1\r\n1\r\nlease-get a\r\nget a\r\n\
         lease-set a 2 0 0 1\r\n2\r\nlease-set a 1 0 0 1\r\n2\r\nget a\r\n",
        expect![
            "LVALUE a 2 0 0||LVALUE b 3 0 0||END|LVALUE a 1 0 0||END|END|NOT_STORED|STORED|VALUE a 7 1|1|END|VALUE a 7 1|1|END|NOT_STORED|NOT_STORED|VALUE a 7 1|1|END|"
        ],
    );
    // A delete ends the lease, an outdated value is shown to who waits, and a lease can be asked for in either language.
    check(
        "lease-get a\r\ndelete a\r\nlease-set a 2 0 0 1\r\n1\r\nlease-get a\r\nms a 1 C4\r\n1\r\nmd a I T30\r\nlease-get a\r\nlease-get a\r\n\
         mg a v\r\nlease-set a 6 0 0 1\r\n2\r\nlease-get a\r\nmg b v c N10\r\nlease-set b 8 0 0 1 noreply\r\n3\r\nget b\r\n",
        expect![
            "LVALUE a 2 0 0||END|NOT_FOUND|NOT_STORED|LVALUE a 4 0 0||END|HD|HD|LVALUE a 6 0 1|1|END|LVALUE a 1 0 1|1|END|VA 1 Z X|1|STORED|VALUE a 0 1|2|END|VA 0 c8 W||VALUE b 0 1|3|END|"
        ],
    );
}

#[test]
fn without_replies() {
    check(
        "set a 0 0 1 noreply\r\n1\r\nadd a 0 0 1 noreply\r\n1\r\ncas a 0 0 1 9 noreply\r\n1\r\nincr a 1 noreply\r\ntouch a 0 noreply\r\n\
         delete b noreply\r\nverbosity 1 noreply\r\nget a\r\nflush_all noreply\r\nflush_all 10 noreply\r\nget a\r\ndelete a noreply\r\n\
         set k 0 0 x noreply\r\nmn\r\n",
        expect!["VALUE a 0 1|2|END|END|CLIENT_ERROR bad command line format|MN|"],
    );
}

#[test]
fn what_is_wrong() {
    check(
        "\r\nnonsense\r\nGET a\r\nget\r\nset a 0 0\r\nset a 0 0 -1\r\nset a 0 0 1\r\nabc\r\nset a x 0 1\r\n1\r\nincr a x\r\ntouch a\r\n\
         mg\r\nmg a !\r\nmg a z\r\nmg a v v\r\nms a x\r\nms a 1 MX\r\n1\r\nma a MX\r\nflush_all x\r\nverbosity\r\nstats what\r\n\
         cache_memlimit 1\r\ncache_memlimit 64\r\nshutdown\r\ndebugtime 1\r\nwatch\r\nlru_crawler\r\nversion\r\nquit\r\nversion\r\n",
        expect![
            "CLIENT_ERROR bad command line format|ERROR|ERROR|CLIENT_ERROR bad command line format|CLIENT_ERROR bad command line format|CLIENT_ERROR bad command line format|CLIENT_ERROR bad data chunk|CLIENT_ERROR bad command line format|CLIENT_ERROR bad command line format|CLIENT_ERROR invalid numeric delta argument|CLIENT_ERROR bad command line format|CLIENT_ERROR bad command line format|CLIENT_ERROR bad command line format|CLIENT_ERROR invalid flag|CLIENT_ERROR duplicate flag|CLIENT_ERROR bad command line format|CLIENT_ERROR invalid mode for ms M token|CLIENT_ERROR invalid mode for ma M token|CLIENT_ERROR invalid exptime argument|CLIENT_ERROR bad command line format|ERROR|MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m|OK|SERVER_ERROR: shutdown not enabled|ERROR|ERROR|ERROR|VERSION 1.6.45|"
        ],
    );
}

#[test]
fn a_large_value_is_refused_and_its_place_emptied() {
    let request = "set a 0 0 1\r\n1\r\nset a 0 0 5000000\r\n";
    let filler = vec![b'v'; 5_000_000];
    let bytes = [request.as_bytes(), &filler, b"\r\nget a\r\n"].concat();
    for read in [1000, 65_536, bytes.len()] {
        let reads: Vec<&[u8]> = bytes.chunks(read).collect();
        let (said, _) = anybody(&reads);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(said, "STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\n");
    }
}

/// More than fits one reply: sent in parts, and nothing is lost or said twice.
#[test]
fn long_answers_come_in_parts() {
    let value = vec![b'v'; 300_000];
    let set = [b"set a 0 0 300000\r\n".as_slice(), &value, b"\r\n"].concat();
    let gets = format!("get{}\r\nget b\r\n", " a b".repeat(20));
    let (said, _) = anybody(&[&set, gets.as_bytes()]);
    let one = [b"VALUE a 0 300000\r\n".as_slice(), &value, b"\r\n"].concat();
    let expected = [b"STORED\r\n".as_slice(), &one.repeat(20), b"END\r\nEND\r\n"].concat();
    assert!(said == expected, "{} bytes instead of {}", said.len(), expected.len());
}

#[test]
fn memory_that_is_full_is_said() {
    let users = Users::default();
    let mut session = Session::new(node(Eviction::Never), 0, users);
    let value = vec![b'v'; 3_000_000];
    let set =
        |key: &str| [format!("set {key} 0 0 3000000\r\n").as_bytes(), &value, b"\r\n"].concat();
    let (said, _) =
        converse(&mut session, &[&set("a"), &set("b"), &set("c"), b"delete a\r\n", &set("c")]);
    expect![[r"
        STORED
        STORED
        SERVER_ERROR out of memory storing object
        DELETED
        STORED
    "]]
    .assert_eq(&String::from_utf8_lossy(&said).replace("\r\n", "\n"));
}

#[test]
fn whoever_must_log_in_does_so_first() {
    let grants =
        vec![Grant { prefix: (*b"ann:").into(), rights: Rights::READ.with(Rights::WRITE) }];
    let ann = User { name: (*b"ann").into(), password: (*b"secret").into(), grants };
    let users = Users::new(vec![ann]);
    let talk = |reads: &[&[u8]]| {
        converse(&mut Session::new(node(Eviction::S3Fifo), 0, users.clone()), reads)
    };
    let request = "get ann:1\r\nset x 0 0 9\r\nann wrong\r\nset x 0 0 3\r\nann\r\nset x 0 0 10\r\nann secret\r\n\
                   set ann:1 0 0 1\r\n1\r\nget ann:1\r\nget bob:1\r\nset bob:1 0 0 1\r\n1\r\nversion\r\nquit\r\n";
    let (said, todo) = however_cut(request.as_bytes(), talk);
    assert_eq!(todo, Todo::Close);
    expect![[r"
        CLIENT_ERROR unauthenticated
        CLIENT_ERROR authentication failure
        CLIENT_ERROR bad authentication token format
        STORED
        STORED
        VALUE ann:1 0 1
        1
        END
        CLIENT_ERROR access denied
        CLIENT_ERROR access denied
        VERSION 1.6.45
    "]]
    .assert_eq(&String::from_utf8_lossy(&said).replace("\r\n", "\n"));
    // Before that, nobody makes us keep much.
    let (said, _) = talk(&[b"set x 0 0 100000\r\n"]);
    expect![[r"
        CLIENT_ERROR unauthenticated
    "]]
    .assert_eq(&String::from_utf8_lossy(&said).replace("\r\n", "\n"));
}
