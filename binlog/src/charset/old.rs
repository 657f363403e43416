//! Character sets from before Unicode, as MySQL and MariaDB have them.
//!
//! The tables are those that browsers use. Where a server makes another character of a code, or none, that is said here: its
//! own character, or that there is none. A text with a code that has none is unreadable: its key is unknown.

use encoding_rs::Encoding;

/// A set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Old {
    encoding: &'static Encoding,
    width: Width,
    /// What servers make of some codes.
    own: &'static [(u16, char)],
    /// What they make of the codes that follow each other, by the first of them.
    own_runs: &'static [(u16, &'static str)],
    /// Codes that are no character: from, to.
    none: &'static [(u16, u16)],
}

/// How many bytes a character has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    One,
    /// Two from 0x81 on.
    Two,
    /// Likewise, but four where a digit is the second.
    TwoOrFour,
    /// Katakana of one byte between those of two.
    ShiftJis,
    /// Three behind 0x8f.
    Euc,
}

const fn plain(encoding: &'static Encoding, width: Width) -> Old {
    Old { encoding, width, own: &[], own_runs: &[], none: &[] }
}

static CP932: Old = plain(encoding_rs::SHIFT_JIS, Width::ShiftJis);
static EUCKR: Old = plain(encoding_rs::EUC_KR, Width::Two);
static KOI8R: Old = plain(encoding_rs::KOI8_R, Width::One);
static LATIN2: Old = plain(encoding_rs::ISO_8859_2, Width::One);
static LATIN7: Old = plain(encoding_rs::ISO_8859_13, Width::One);
static MACROMAN: Old = plain(encoding_rs::MACINTOSH, Width::One);
/// The Windows set has more at 0x80 to 0x9f.
static LATIN5: Old = Old { none: &[(0x80, 0x9f)], ..plain(encoding_rs::WINDOWS_1254, Width::One) };
/// Likewise.
static TIS620: Old = Old { none: &[(0x80, 0xa0)], ..plain(encoding_rs::WINDOWS_874, Width::One) };
static CP1250: Old = Old {
    none: &[(0x81, 0x81), (0x83, 0x83), (0x88, 0x88), (0x90, 0x90), (0x98, 0x98)],
    ..plain(encoding_rs::WINDOWS_1250, Width::One)
};
static CP1251: Old = Old { none: &[(0x98, 0x98)], ..plain(encoding_rs::WINDOWS_1251, Width::One) };
static CP1256: Old = Old {
    none: &[
        (0x8a, 0x8a),
        (0x8f, 0x8f),
        (0x98, 0x98),
        (0x9a, 0x9a),
        (0x9f, 0x9f),
        (0xaa, 0xaa),
        (0xc0, 0xc0),
        (0xff, 0xff),
    ],
    ..plain(encoding_rs::WINDOWS_1256, Width::One)
};
static CP1257: Old = Old {
    none: &[
        (0x81, 0x81),
        (0x83, 0x83),
        (0x88, 0x88),
        (0x8a, 0x8a),
        (0x8c, 0x8c),
        (0x90, 0x90),
        (0x98, 0x98),
        (0x9a, 0x9a),
        (0x9c, 0x9c),
        (0x9f, 0x9f),
    ],
    ..plain(encoding_rs::WINDOWS_1257, Width::One)
};
static CP866: Old =
    Old { own: &[(0xfc, 'ⁿ'), (0xfd, '²')], ..plain(encoding_rs::IBM866, Width::One) };
static GREEK: Old = Old {
    own: &[(0xa1, 'ʽ'), (0xa2, 'ʼ')],
    none: &[(0xa4, 0xa5), (0xaa, 0xaa)],
    ..plain(encoding_rs::ISO_8859_7, Width::One)
};
static HEBREW: Old = Old { own: &[(0xaf, '‾')], ..plain(encoding_rs::ISO_8859_8, Width::One) };
static KOI8U: Old = Old {
    own: &[(0x95, '•'), (0xae, '╝'), (0xbe, '╬')],
    ..plain(encoding_rs::KOI8_U, Width::One)
};
static GBK: Old = Old {
    none: &[
        (0xa2ab, 0xa2b0),
        (0xa2e3, 0xa2e4),
        (0xa3a0, 0xa3a0),
        (0xa6d9, 0xa6df),
        (0xa6ec, 0xa6ed),
        (0xa6f3, 0xa6f3),
        (0xa8bc, 0xa8bc),
        (0xa8bf, 0xa8bf),
        (0xa989, 0xa995),
        (0xfe50, 0xfea0),
    ],
    ..plain(encoding_rs::GBK, Width::Two)
};
/// Characters that have moved between its editions are none, where servers and tables disagree about them.
static GB18030: Old = Old {
    none: &[
        (0xa3a0, 0xa3a0),
        (0xa6d9, 0xa6df),
        (0xa6ec, 0xa6ed),
        (0xa6f3, 0xa6f3),
        (0xfe59, 0xfe59),
        (0xfe61, 0xfe61),
        (0xfe66, 0xfe67),
        (0xfe6d, 0xfe6d),
        (0xfe7e, 0xfe7e),
        (0xfe90, 0xfe90),
        (0xfea0, 0xfea0),
    ],
    ..plain(encoding_rs::GB18030, Width::TwoOrFour)
};
static GB2312: Old = Old {
    own: &[(0xa1a4, '・'), (0xa1aa, '―')],
    none: &[(0xa2a1, 0xa2b0), (0xa2e3, 0xa2e4), (0xa6d9, 0xa6f5), (0xa8bb, 0xa8c0)],
    ..plain(encoding_rs::GBK, Width::Two)
};
/// What Hong Kong and Microsoft added is not there.
static BIG5: Old = Old {
    own: &[
        (0xa145, '•'),
        (0xa14e, '､'),
        (0xa1c2, '‾'),
        (0xa1e3, '∼'),
        (0xa1f2, '♁'),
        (0xa1f3, '☉'),
        (0xa241, '／'),
        (0xa242, '＼'),
        (0xa244, '¥'),
        (0xa246, '¢'),
        (0xa247, '£'),
    ],
    own_runs: &[
        (
            0xc6a1,
            "ヾゝゞ々ぁあぃいぅうぇえぉおかがきぎくぐけげこごさざしじすずせぜそぞただちぢっつづてでとどなに\
             ぬねのはばぱひびぴふぶぷへべぺほぼぽまみむめもゃやゅゆょよらりるれろゎわゐゑをんァアィイゥウェ",
        ),
        (
            0xc740,
            "エォオカガキギクグケゲコゴサザシジスズセゼソゾタダチヂッツヅテデトドナニヌネノハバパヒビピフブプヘベペ\
             ホボポマミムメモャヤュユ",
        ),
        (
            0xc7a1,
            "ョヨラリルレロヮワヰヱヲンヴヵヶДЕЁЖЗИЙКЛМУФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийклмнопрстуфхцчшщъыьэюя①②③④⑤⑥⑦⑧⑨⑩⑴⑵⑶⑷⑸⑹⑺⑻⑼⑽",
        ),
    ],
    none: &[
        (0x8000, 0xa0ff),
        (0xa15a, 0xa15a),
        (0xa1c3, 0xa1c3),
        (0xa1c5, 0xa1c5),
        (0xa1fe, 0xa240),
        (0xa2cc, 0xa2cc),
        (0xa2ce, 0xa2ce),
        (0xa3c0, 0xa3e1),
        (0xc7fd, 0xc8ff),
        (0xf9dd, 0xffff),
    ],
    ..plain(encoding_rs::BIG5, Width::Two)
};
/// What NEC and IBM added is not there, nor what users may add.
static SJIS: Old = Old {
    own: &[
        (0x815f, '\\'),
        (0x8160, '〜'),
        (0x8161, '‖'),
        (0x817c, '−'),
        (0x8191, '¢'),
        (0x8192, '£'),
        (0x81ca, '¬'),
    ],
    none: &[(0x8500, 0x87ff), (0xed00, 0xeeff), (0xf000, 0xffff)],
    ..plain(encoding_rs::SHIFT_JIS, Width::ShiftJis)
};
static UJIS: Old = Old {
    own: &[
        (0xa1c0, '\\'),
        (0xa1c1, '〜'),
        (0xa1c2, '‖'),
        (0xa1dd, '−'),
        (0xa1f1, '¢'),
        (0xa1f2, '£'),
        (0xa2cc, '¬'),
    ],
    none: &[(0xad00, 0xadff), (0xf500, 0xffff)],
    ..plain(encoding_rs::EUC_JP, Width::Euc)
};
/// What users may add is not there.
static EUCJPMS: Old = Old { none: &[(0xf500, 0xffff)], ..plain(encoding_rs::EUC_JP, Width::Euc) };

/// By collation id.
pub(super) fn of(collation: u16) -> Option<&'static Old> {
    Some(match collation {
        1 | 84 => &BIG5,
        2 | 9 | 21 | 27 | 77 => &LATIN2,
        7 | 74 => &KOI8R,
        12 | 91 => &UJIS,
        97 | 98 => &EUCJPMS,
        13 | 88 => &SJIS,
        95 | 96 => &CP932,
        14 | 23 | 50 | 51 | 52 => &CP1251,
        16 | 71 => &HEBREW,
        18 | 89 => &TIS620,
        19 | 85 => &EUCKR,
        20 | 41 | 42 | 79 => &LATIN7,
        22 | 75 => &KOI8U,
        24 | 86 => &GB2312,
        28 | 87 => &GBK,
        25 | 70 => &GREEK,
        26 | 34 | 44 | 66 | 99 => &CP1250,
        29 | 58 | 59 => &CP1257,
        30 | 78 => &LATIN5,
        36 | 68 => &CP866,
        39 | 53 => &MACROMAN,
        57 | 67 => &CP1256,
        248..=250 => &GB18030,
        _ => return None,
    })
}

impl Old {
    /// The text; `None` if some code in it is no character.
    pub(super) fn text(&self, raw: &[u8]) -> Option<String> {
        let (mut text, mut rest) = (String::with_capacity(raw.len()), raw);
        while !rest.is_empty() {
            let (character, behind) = rest.split_at_checked(self.width.of(rest))?;
            rest = behind;
            let code = match character {
                [one] => u16::from(*one),
                [high, low] => (u16::from(*high) << 8) | u16::from(*low),
                _ => 0,
            };
            if let Some(own) = self.own(code) {
                text.push(own);
                continue;
            }
            if code > 0x7f && self.none.iter().any(|&(from, to)| (from..=to).contains(&code)) {
                return None;
            }
            let decoded =
                self.encoding.decode_without_bom_handling_and_without_replacement(character)?;
            // Codes that the set keeps free.
            let is_private = |char| matches!(char, '\u{e000}'..='\u{f8ff}');
            if self.width == Width::Two && decoded.contains(is_private) {
                return None;
            }
            text.push_str(&decoded);
        }
        Some(text)
    }

    /// What servers make of a code, if that is not what the tables say.
    fn own(&self, code: u16) -> Option<char> {
        let in_run = |&(first, characters): &(u16, &'static str)| {
            characters.chars().nth(code.checked_sub(first)?.into())
        };
        let single = self.own.iter().find(|(own, _)| *own == code).map(|(_, own)| *own);
        single.or_else(|| self.own_runs.iter().find_map(in_run))
    }
}

impl Width {
    /// Of the first character.
    fn of(self, bytes: &[u8]) -> usize {
        match (self, bytes) {
            (Width::Euc, [0x8f, ..]) => 3,
            (Width::TwoOrFour, [0x81..=0xff, b'0'..=b'9', ..]) => 4,
            (Width::ShiftJis, [0x81..=0x9f | 0xe0..=0xff, ..])
            | (Width::Two | Width::TwoOrFour | Width::Euc, [0x81..=0xff, ..]) => 2,
            _ => 1,
        }
    }
}
