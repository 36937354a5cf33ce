//! What user code printed, on a terminal: what would move the cursor, set the title or answer in the reader's name is shown instead
//! of done. Writes to no terminal.

use std::{borrow::Cow, fmt::Write as _};

/// Begins a sequence of a terminal (ECMA-48, CSI).
const SEQUENCE: &str = "\u{1b}[";

/// Ends one that chooses colours and weights (SGR).
const COLOUR: char = 'm';

/// Most characters of such a sequence.
const LONGEST: usize = 32;

/// Takes the colours away again.
const PLAIN: &str = "\u{1b}[0m";

/// Lines for a person at a terminal. Colours stay, up to the end of their line; everything else that is not printed is shown:
/// `^[` for escape and so on, as `kubectl` and `cat -v` do, and a character beyond ASCII by its number.
pub fn text(lines: &str) -> Cow<'_, str> {
    if !lines.contains(is_hidden) {
        return Cow::Borrowed(lines);
    }
    let mut shown = String::with_capacity(lines.len() + 16);
    let mut rest = lines;
    let mut is_coloured = false;
    while let Some(character) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            shown.push_str(colour);
            is_coloured = true;
            rest = &rest[colour.len()..];
            continue;
        }
        rest = &rest[character.len_utf8()..];
        if character == '\n' && std::mem::take(&mut is_coloured) {
            shown.push_str(PLAIN);
        }
        if is_hidden(character) {
            push(character, &mut shown);
        } else {
            shown.push(character);
        }
    }
    if is_coloured {
        shown.push_str(PLAIN);
    }
    Cow::Owned(shown)
}

/// One line of a message, which has no colours.
pub fn message(line: &str) -> Cow<'_, str> {
    let is_hidden = |character: char| is_hidden(character) || character == '\n';
    if !line.contains(is_hidden) {
        return Cow::Borrowed(line);
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        if is_hidden(character) {
            push(character, &mut shown);
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// JSON for a person at a terminal: the same JSON, in which such characters are written by their numbers.
pub fn json(lines: &str) -> Cow<'_, str> {
    if !lines.contains(is_hidden) {
        return Cow::Borrowed(lines);
    }
    let mut shown = String::with_capacity(lines.len() + 16);
    for character in lines.chars() {
        if is_hidden(character) {
            // Writing to a String cannot fail. All of them have at most four digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters but the ends of lines and tabs, and what turns the direction of writing around (Unicode, UAX #9).
fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{200e}'
        | '\u{200f}'
        | '\u{061c}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        character => character.is_control(),
    }
}

/// The sequence at the beginning of a text, if it is one that chooses colours.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix(SEQUENCE)?;
    let length = parameters
        .char_indices()
        .take(LONGEST)
        .find(|(_, character)| !matches!(character, '0'..='9' | ';' | ':'))
        .filter(|(at, character)| *character == COLOUR && !conceals(&parameters[..*at]))
        .map(|(at, _)| SEQUENCE.len() + at + COLOUR.len_utf8())?;
    text.get(..length)
}

/// Whether what follows would not be seen (SGR 8), or that cannot be told: the numbers of a colour are none of their own (ISO 8613-6,
/// 38, 48 and 58).
fn conceals(parameters: &str) -> bool {
    let number = |field: &str| field.trim_start_matches('0').to_owned();
    let mut fields = parameters.split(';');
    while let Some(field) = fields.next() {
        let code = number(field.split(':').next().unwrap_or_default());
        let skipped = match code.as_str() {
            "8" => return true,
            "38" | "48" | "58" if !field.contains(':') => {
                match fields.next().map(number).as_deref() {
                    Some("5") => 1,
                    Some("2") => 3,
                    _ => return true,
                }
            }
            _ => 0,
        };
        fields.by_ref().take(skipped).for_each(drop);
    }
    false
}

fn push(character: char, shown: &mut String) {
    match u8::try_from(character) {
        Ok(byte @ (0..=0x1f | 0x7f)) => {
            shown.push('^');
            shown.push(char::from(byte ^ 0x40));
        }
        _ => {
            // Writing to a String cannot fail.
            let _ = write!(shown, "<U+{:04X}>", u32::from(character));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_done() {
        for (printed, shown) in [
            ("plain, ä and \ttabs", "plain, ä and \ttabs"),
            ("\u{1b}]0;a title\u{7}", "^[]0;a title^G"),
            ("\u{1b}[2J\u{1b}[1;1H", "^[[2J^[[1;1H"),
            ("over\rwritten\u{8}", "over^Mwritten^H"),
            ("\u{1b}c\u{0}\u{7f}", "^[c^@^?"),
            ("\u{9b}31m", "<U+009B>31m"),
            ("a\u{202e}b", "a<U+202E>b"),
            ("\u{1b}[6n", "^[[6n"),
            ("\u{1b}[", "^[["),
            ("\u{1b}[1", "^[[1"),
            ("\u{1b}[?25m", "^[[?25m"),
            ("\u{1b}[8mhidden", "^[[8mhidden"),
            ("\u{1b}[1;08;31m", "^[[1;08;31m"),
            ("\u{1b}[38;5;8;8m", "^[[38;5;8;8m"),
            ("\u{1b}[38;8m", "^[[38;8m"),
        ] {
            assert_eq!(text(printed), shown);
        }
    }

    #[test]
    fn colours_stay_up_to_the_end_of_their_line() {
        let red = "\u{1b}[1;31m";
        assert_eq!(
            text(&format!("{red}ERROR\nnext\n")),
            format!("{red}ERROR{PLAIN}\nnext\n")
        );
        assert_eq!(text("\u{1b}[mx"), format!("\u{1b}[mx{PLAIN}"));
        assert_eq!(
            text("\u{1b}[38:2:1:2:3mx\n\n"),
            format!("\u{1b}[38:2:1:2:3mx{PLAIN}\n\n")
        );
        for colour in ["38;5;8", "48;2;8;8;8", "38:5:8", "1;38;5;8;4", "18;28"] {
            let coloured = format!("\u{1b}[{colour}mx");
            assert_eq!(text(&coloured), format!("{coloured}{PLAIN}"));
        }
        let long = format!("\u{1b}[{}m", "1;".repeat(LONGEST));
        assert!(text(&long).starts_with("^[["), "too long for one");
    }

    #[test]
    fn messages_have_one_line_and_no_colours() {
        assert_eq!(
            message("a key\nwith \u{1b}[31mred"),
            "a key^Jwith ^[[31mred"
        );
        assert_eq!(message("plain"), "plain");
    }

    #[test]
    fn json_says_the_same_on_a_terminal() {
        let line = "{\"message\":\"a\u{7f}\u{9b}\u{202e}\"}\n";
        let shown = json(line);
        assert_eq!(shown, "{\"message\":\"a\\u007f\\u009b\\u202e\"}\n");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(line));
    }

    proptest! {
        #[test]
        fn nothing_but_colours_reaches_a_terminal(printed in any::<String>()) {
            let shown = text(&printed);
            let mut rest = &*shown;
            while let Some(character) = rest.chars().next() {
                if let Some(colour) = colour(rest) {
                    rest = &rest[colour.len()..];
                } else {
                    prop_assert!(!is_hidden(character), "{character:?} in {shown:?}");
                    rest = &rest[character.len_utf8()..];
                }
            }
            prop_assert!(!json(&printed).contains(is_hidden));
            prop_assert!(!message(&printed).contains(is_hidden));
        }
    }
}
