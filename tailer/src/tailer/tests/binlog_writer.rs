//! Writes MariaDB binlog events for tests: one table `shop.users (id INT, email VARCHAR(100))`, FULL metadata.

use binlog::frame::{Event, Header};

/// A row: `id`, `email`.
pub(super) type User = (i32, Option<String>);

/// An event that is its own memory.
#[derive(Clone, Debug)]
pub(super) struct Written {
    header: Header,
    body: Vec<u8>,
}

impl Written {
    pub(super) fn as_event(&self) -> Event<'_> {
        Event { header: self.header, body: &self.body }
    }
}

/// Keeps the position.
#[derive(Debug)]
pub(super) struct BinlogWriter {
    offset: u32,
}

impl BinlogWriter {
    pub(super) fn new() -> BinlogWriter {
        BinlogWriter { offset: 4 }
    }

    fn event(&mut self, kind: u8, server_id: u32, body: Vec<u8>) -> Written {
        let event_bytes = u32::try_from(body.len() + 19).unwrap();
        self.offset += event_bytes;
        let header = Header {
            timestamp_s: 1,
            kind,
            server_id,
            event_bytes,
            end_position: self.offset,
            flags: 0,
        };
        Written { header, body }
    }

    pub(super) fn begin(&mut self, server_id: u32, sequence: u64) -> Written {
        self.gtid(server_id, sequence, 0)
    }

    fn gtid(&mut self, server_id: u32, sequence: u64, flags: u8) -> Written {
        let mut body = sequence.to_le_bytes().to_vec();
        body.extend(0_u32.to_le_bytes());
        body.push(flags);
        body.extend([0; 6]);
        self.event(162, server_id, body)
    }

    /// A statement that is its own transaction.
    pub(super) fn ddl(&mut self, server_id: u32, sequence: u64, text: &str) -> Vec<Written> {
        let schema = b"shop";
        let mut body = vec![0; 8];
        body.push(4);
        body.extend([0; 4]);
        body.extend(schema);
        body.push(0);
        body.extend(text.as_bytes());
        vec![self.gtid(server_id, sequence, 1), self.event(2, server_id, body)]
    }

    pub(super) fn table_map(&mut self, table: &str) -> Written {
        let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0];
        for name in ["shop", table] {
            body.push(u8::try_from(name.len()).unwrap());
            body.extend(name.as_bytes());
            body.push(0);
        }
        body.extend([2, 3, 15]); // INT, VARCHAR
        body.extend([2, 144, 1]); // 400 bytes
        body.push(0b10); // `email` may be NULL.
        body.extend([1, 1, 0]); // Signed.
        body.extend([2, 1, 45]); // utf8mb4
        let names = [&b"\x02id"[..], b"\x05email"].concat();
        body.extend([4, u8::try_from(names.len()).unwrap()]);
        body.extend(names);
        self.event(19, 1, body)
    }

    pub(super) fn insert(&mut self, users: &[User]) -> Written {
        self.rows(23, &[0b11], users.iter())
    }

    pub(super) fn update(&mut self, users: &[(User, User)]) -> Written {
        self.rows(24, &[0b11, 0b11], users.iter().flat_map(|(before, after)| [before, after]))
    }

    pub(super) fn delete(&mut self, users: &[User]) -> Written {
        self.rows(25, &[0b11], users.iter())
    }

    /// Rows without `id` in their images.
    pub(super) fn insert_without_id(&mut self) -> Written {
        let mut body = vec![9, 0, 0, 0, 0, 0, 0, 0, 2, 0b10];
        body.extend([0b1]); // NULL
        self.event(23, 1, body)
    }

    fn rows<'a>(
        &mut self,
        kind: u8,
        bitmaps: &[u8],
        users: impl Iterator<Item = &'a User>,
    ) -> Written {
        let mut body = vec![9, 0, 0, 0, 0, 0, 0, 0, 2];
        body.extend(bitmaps);
        for (id, email) in users {
            body.push(if email.is_none() { 0b10 } else { 0 });
            body.extend(id.to_le_bytes());
            if let Some(email) = email {
                body.extend(u16::try_from(email.len()).unwrap().to_le_bytes());
                body.extend(email.as_bytes());
            }
        }
        self.event(kind, 1, body)
    }

    pub(super) fn commit(&mut self) -> Written {
        self.event(16, 1, vec![0; 8])
    }

    pub(super) fn unknown(&mut self) -> Written {
        self.event(250, 1, vec![1, 2, 3])
    }

    pub(super) fn heartbeat(&mut self) -> Written {
        let mut event = self.event(27, 1, b"bin.000001".to_vec());
        self.offset -= event.header.event_bytes;
        event.header.end_position = self.offset;
        event
    }
}
