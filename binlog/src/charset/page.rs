//! Code pages of one byte that browsers do not know, as MySQL and MariaDB have them.
//!
//! Both servers make the same of every byte. One that is no character there is `�` here: a text with it is unreadable.

/// A code page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Every byte below is the character of that number.
    first: u8,
    /// Of the bytes from `first` on.
    characters: &'static str,
}

/// What is no character.
const NONE: char = '\u{fffd}';

static ARMSCII8: Page = Page {
    first: 0xa0,
    characters: "\u{a0}❁§։)(»«—.՝,-՟…՜՛՞ԱաԲբԳգԴդԵեԶզԷէԸըԹթԺժԻիԼլԽխԾծԿկՀհՁձՂղՃճՄմՅյՆնՇշ\
        ՈոՉչՊպՋջՌռՍսՎվՏտՐրՑցՒւՓփՔքՕօՖֆ’'",
};
static CP850: Page = Page {
    first: 0x80,
    characters: "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐\
        └┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}",
};
static CP852: Page = Page {
    first: 0x80,
    characters: "ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐\
        └┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}",
};
static DEC8: Page = Page {
    first: 0xa0,
    characters: "\u{a0}¡¢£�¥�§¤©ª«����°±²³�µ¶·�¹º»¼½�¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ�ÑÒÓÔÕÖŒØÙÚÛÜŸ�ß\
        àáâãäåæçèéêëìíîï�ñòóôõöœøùúûüÿ��",
};
static GEOSTD8: Page = Page {
    first: 0x80,
    characters: "€�‚�„…†‡�‰�‹�����‘’“”•–—���›����\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
        აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ�����������������������№��",
};
static HP8: Page = Page {
    first: 0xa0,
    characters: "\u{a0}ÀÂÈÊËÎÏ´ˋˆ¨˜ÙÛ₤¯Ýý°ÇçÑñ¡¿¤£¥§ƒ¢âêôûáéóúàèòùäëöüÅîØÆåíøæÄìÖÜÉïßÔ\
        ÁÃãÐðÍÌÓÒÕõŠšÚŸÿÞþ·µ¶¾—¼½ªº«■»±�",
};
static KEYBCS2: Page = Page {
    first: 0x80,
    characters: "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
        └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
};
static MACCE: Page = Page {
    first: 0x80,
    characters: "ÄĀāÉĄÖÜáąČäčĆćéŹźĎíďĒēĖóėôöõúĚěü†°Ę£§•¶ß®©™ę¨≠ģĮįĪ≤≥īĶ∂∑łĻļĽľĹĺŅ\
        ņŃ¬√ńŇ∆«»…\u{a0}ňŐÕőŌ–—“”‘’÷◊ōŔŕŘ‹›řŖŗŠ‚„šŚśÁŤťÍŽžŪÓÔūŮÚůŰűŲųÝýķŻŁżĢˇ",
};
static SWE7: Page = Page {
    first: 0x40,
    characters: "ÉABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÅÜ_éabcdefghijklmnopqrstuvwxyzäöåü�",
};

/// By collation id.
pub(super) fn of(collation: u16) -> Option<&'static Page> {
    Some(match collation {
        32 | 64 => &ARMSCII8,
        4 | 80 => &CP850,
        40 | 81 => &CP852,
        3 | 69 => &DEC8,
        92 | 93 => &GEOSTD8,
        6 | 72 => &HP8,
        37 | 73 => &KEYBCS2,
        38 | 43 => &MACCE,
        10 | 82 => &SWE7,
        _ => return None,
    })
}

impl Page {
    /// The text; `None` if some byte in it is no character.
    pub(super) fn text(&self, raw: &[u8]) -> Option<String> {
        raw.iter().map(|&byte| self.character(byte)).collect()
    }

    fn character(&self, byte: u8) -> Option<char> {
        let Some(at) = byte.checked_sub(self.first) else { return Some(char::from(byte)) };
        self.characters.chars().nth(at.into()).filter(|&character| character != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_length() {
        for collation in 0..=1024 {
            let Some(page) = of(collation) else { continue };
            let end = usize::from(page.first) + page.characters.chars().count();
            assert!(end == 0x100 || end == 0x80, "collation {collation} ends at {end:#x}");
        }
    }

    #[test]
    fn characters() {
        let text = |page: &Page, raw: &[u8]| page.text(raw);
        assert_eq!(text(&CP850, b"caf\x82 \xff"), Some("café \u{a0}".to_owned()));
        assert_eq!(text(&SWE7, b"Sm|rg}s"), Some("Smörgås".to_owned()));
        assert_eq!(text(&DEC8, b"\x80\xa0"), Some("\u{80}\u{a0}".to_owned()));
        assert_eq!(text(&DEC8, b"\xa4"), None);
        assert_eq!(text(&SWE7, b"\x80"), None);
    }
}
