//! [`Clocks`]: what all lanes together say of this node's clock. Pure.

use protocol::control::Agreement;

/// How many connections found our clock to agree with theirs, and how many did not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    close: usize,
    apart: usize,
}

impl Clocks {
    /// A connection says `now` what it had not said, or said otherwise, `before`; `None` when it ends. Returns what all of them say, if
    /// anybody does.
    pub fn change(
        &mut self,
        before: Option<Agreement>,
        now: Option<Agreement>,
    ) -> Option<Agreement> {
        if let Some(before) = before {
            let count = self.of(before);
            *count = count.saturating_sub(1);
        }
        if let Some(now) = now {
            let count = self.of(now);
            *count = count.saturating_add(1);
        }
        self.together()
    }

    /// One that does not agree is enough: ages come from the clock of one of them, and nobody knows which is wrong.
    fn together(self) -> Option<Agreement> {
        match self {
            Clocks { apart: 1.., .. } => Some(Agreement::Apart),
            Clocks { close: 1.., .. } => Some(Agreement::Close),
            Clocks { .. } => None,
        }
    }

    fn of(&mut self, agreement: Agreement) -> &mut usize {
        match agreement {
            Agreement::Close => &mut self.close,
            Agreement::Apart => &mut self.apart,
        }
    }
}
