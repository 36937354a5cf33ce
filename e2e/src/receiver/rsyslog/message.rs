//! A message of RFC 5424, read by its grammar (§6) and not one bit more generously.

use serde_json::{Map, Value};

/// The parts of a message; `-` where the message has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) priority: u8,
    time: &'a str,
    pub(super) host: &'a str,
    pub(super) app: &'a str,
    pub(super) process: &'a str,
    pub(super) id: &'a str,
    /// STRUCTURED-DATA as it stands there.
    pub(super) data: &'a str,
    elements: Vec<Element<'a>>,
    pub(super) text: &'a str,
}

/// An SD-ELEMENT: its SD-ID and its parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Element<'a> {
    id: &'a str,
    parameters: Vec<(&'a str, String)>,
}

/// The SD-IDs without an enterprise number (§7).
const REGISTERED: [&str; 3] = ["timeQuality", "origin", "meta"];

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(raw: &'a str) -> Result<Self, String> {
        let (priority, rest) = raw
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .ok_or("no PRI")?;
        let priority = priority_of(priority).ok_or("not a PRI")?;
        let rest = rest.strip_prefix("1 ").ok_or("not version 1")?;
        let (time, rest) = rest.split_once(' ').ok_or("ends with TIMESTAMP")?;
        if time != "-" && !is_timestamp(time) {
            return Err(format!("not a TIMESTAMP: {time}"));
        }
        let (host, rest) = field("HOSTNAME", 255, rest)?;
        let (app, rest) = field("APP-NAME", 48, rest)?;
        let (process, rest) = field("PROCID", 128, rest)?;
        let (id, rest) = field("MSGID", 32, rest)?;
        let (elements, after) = structured_data(rest)?;
        let data = &rest[..rest.len() - after.len()];
        let text = match after.strip_prefix(' ') {
            // MSG-UTF8 begins with a byte order mark.
            Some(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            None if after.is_empty() => "",
            None => return Err("something between STRUCTURED-DATA and MSG".to_owned()),
        };
        Ok(Self {
            priority,
            time,
            host,
            app,
            process,
            id,
            data,
            elements,
            text,
        })
    }

    /// All parameters by name.
    ///
    /// # Errors
    /// When two have the same name: allowed, and nobody could tell them apart.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, String> {
        let mut fields = Map::new();
        for (name, value) in self.elements.iter().flat_map(|element| &element.parameters) {
            let before = fields.insert((*name).to_owned(), value.clone().into());
            if before.is_some() {
                return Err(format!("two parameters {name}"));
            }
        }
        Ok(fields)
    }

    /// Everything else but the text.
    pub(super) fn envelope(&self) -> Map<String, Value> {
        let ids: Vec<_> = self.elements.iter().map(|element| element.id).collect();
        Map::from_iter([
            ("priority".to_owned(), self.priority.into()),
            ("time".to_owned(), self.time.into()),
            ("host".to_owned(), self.host.into()),
            ("app".to_owned(), self.app.into()),
            ("process".to_owned(), self.process.into()),
            ("id".to_owned(), self.id.into()),
            ("data".to_owned(), ids.into()),
        ])
    }
}

fn priority_of(digits: &str) -> Option<u8> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits == "0" || !digits.starts_with('0');
    digits
        .parse()
        .ok()
        .filter(|priority| plain && canonical && *priority <= 191)
}

/// A field of the header: 1 to `most` characters of PRINTUSASCII.
fn field<'a>(name: &str, most: usize, rest: &'a str) -> Result<(&'a str, &'a str), String> {
    let (value, rest) = rest
        .split_once(' ')
        .ok_or_else(|| format!("ends with {name}"))?;
    if (1..=most).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok((value, rest))
    } else {
        Err(format!("not a {name}: {value:?}"))
    }
}

/// `2026-11-24T04:00:00.123456Z`: upper-case letters, no leap second, at most six digits of a second's fraction.
fn is_timestamp(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(11) else {
        return false;
    };
    let Some((time, rest)) = rest.split_at_checked(8) else {
        return false;
    };
    let after_fraction = match rest.strip_prefix('.') {
        None => Some(rest),
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            (1..=6).contains(&digits).then(|| &fraction[digits..])
        }
    };
    let is_offset = |offset: &str| {
        offset == "Z"
            || offset
                .strip_prefix(['+', '-'])
                .is_some_and(|clock| fits(clock, "##:##", &[23, 59]))
    };
    fits(date, "####-##-##T", &[9999, 12, 31])
        && fits(time, "##:##:##", &[23, 59, 59])
        && after_fraction.is_some_and(is_offset)
}

/// Whether a text has digits exactly where the form has `#`, and no number is above its limit.
fn fits(text: &str, form: &str, limits: &[u32]) -> bool {
    let same = text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, expected)| {
            if expected == b'#' {
                byte.is_ascii_digit()
            } else {
                byte == expected
            }
        });
    let numbers = text
        .split(|one: char| !one.is_ascii_digit())
        .filter_map(|digits| digits.parse::<u32>().ok());
    same && numbers.zip(limits).all(|(number, limit)| number <= *limit)
}

/// The elements of STRUCTURED-DATA and what comes after it.
fn structured_data(text: &str) -> Result<(Vec<Element<'_>>, &str), String> {
    if let Some(rest) = text.strip_prefix('-') {
        return Ok((Vec::new(), rest));
    }
    let mut elements: Vec<Element<'_>> = Vec::new();
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix('[') {
        let (element, after) = element(inside)?;
        if elements.iter().any(|before| before.id == element.id) {
            return Err(format!("SD-ID {} comes twice", element.id));
        }
        elements.push(element);
        rest = after;
    }
    if elements.is_empty() {
        return Err("no STRUCTURED-DATA".to_owned());
    }
    Ok((elements, rest))
}

/// An element after its `[`, and what comes after its `]`.
fn element(inside: &str) -> Result<(Element<'_>, &str), String> {
    let (id, mut rest) = name("SD-ID", inside)?;
    let number = id.split_once('@').map(|(_, number)| number);
    if !REGISTERED.contains(&id) && !number.is_some_and(is_enterprise) {
        return Err(format!("SD-ID {id} has no private enterprise number"));
    }
    let mut parameters = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return Ok((Element { id, parameters }, after));
        }
        let parameter = rest
            .strip_prefix(' ')
            .ok_or("no blank before a parameter")?;
        let (name, after) = name("PARAM-NAME", parameter)?;
        let quoted = after
            .strip_prefix("=\"")
            .ok_or("a parameter has no value")?;
        let (value, after) = value(quoted)?;
        parameters.push((name, value));
        rest = after;
    }
}

/// A private enterprise number, which may have sub-identifiers (§7.2.2).
fn is_enterprise(number: &str) -> bool {
    number
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// SD-NAME: 1 to 32 characters of PRINTUSASCII but `=`, `]` and `"`.
fn name<'a>(what: &str, text: &'a str) -> Result<(&'a str, &'a str), String> {
    let allowed = |byte: &u8| byte.is_ascii_graphic() && !b"=]\"".contains(byte);
    let length = text.bytes().take_while(|byte| allowed(byte)).count();
    if (1..=32).contains(&length) {
        Ok(text.split_at(length))
    } else {
        Err(format!("not a {what}"))
    }
}

/// PARAM-VALUE after its first quotation mark: `"`, `\` and `]` are escaped, and nothing else is (§6.3.3).
fn value(quoted: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[place + 1..])),
            ']' => return Err("a bracket that is not escaped".to_owned()),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\' | ']'))) => value.push(escaped),
                _ => return Err("an escape that is none".to_owned()),
            },
            other => value.push(other),
        }
    }
    Err("a value that does not end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"<134>1 2026-11-24T04:00:00.123456Z pod app 0 stdout [k8s@32473 a="q\"\\\]ä" b=""][x@1.2] a line"#;

    #[test]
    fn a_message_is_read_part_by_part() {
        let message = Message::parse(GOOD).unwrap();
        assert_eq!(message.text, "a line");
        let fields = message.fields().unwrap();
        assert_eq!(fields["a"], r#"q"\]ä"#);
        assert_eq!(fields["b"], "");
        let envelope = message.envelope();
        assert_eq!(envelope["data"], serde_json::json!(["k8s@32473", "x@1.2"]));
        assert_eq!(envelope["time"], "2026-11-24T04:00:00.123456Z");
        for (raw, text) in [
            ("<0>1 - - - - - -", ""),
            ("<0>1 - - - - - - ", ""),
            ("<0>1 - - - - - -  two ", " two "),
            ("<0>1 - - - - - - \u{feff}text", "text"),
            ("<191>1 2026-11-24T04:00:00+01:00 - - - - - a\nb", "a\nb"),
        ] {
            assert_eq!(Message::parse(raw).unwrap().text, text, "{raw:?}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_have_is_refused() {
        let long = GOOD.replace(" app ", &format!(" {} ", "a".repeat(49)));
        let bad = [
            "",
            "<192>1 - - - - - -",
            "<014>1 - - - - - -",
            "<+1>1 - - - - - -",
            "<14>2 - - - - - -",
            "<14>Nov 24 04:00:00 host app: text",
            "<14>1 - - - - -",
            "<14>1 - - - - - -text",
            "<14>1 -  - - - -",
            "<14>1 - ä - - - -",
            "<14>1 2026-11-24t04:00:00z - - - - -",
            "<14>1 2026-11-24T04:00:60Z - - - - -",
            "<14>1 2026-13-24T04:00:00Z - - - - -",
            "<14>1 2026-11-24T04:00:00.1234567Z - - - - -",
            "<14>1 2026-11-24T04:00:00 - - - - -",
            "<14>1 - - - - - [a b=\"c\"]",
            "<14>1 - - - - - [a@1 b=\"]\"]",
            "<14>1 - - - - - [a@1 b=\"\\n\"]",
            "<14>1 - - - - - [a@1 b=c]",
            "<14>1 - - - - - [a@1 b=\"c]",
            "<14>1 - - - - - [a@1  b=\"c\"]",
            "<14>1 - - - - - [a@1][a@1]",
            "<14>1 - - - - - [a@1]x",
            "<14>1 - - - - - []",
            &long,
        ];
        for raw in bad {
            assert!(Message::parse(raw).is_err(), "{raw:?}");
        }
        let twice = Message::parse("<14>1 - - - - - [a@1 b=\"1\"][c@1 b=\"2\"]").unwrap();
        assert!(twice.fields().is_err());
    }
}
