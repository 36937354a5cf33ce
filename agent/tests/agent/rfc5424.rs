//! A parser of RFC 5424 that forgives nothing, and of the octet counting around messages (RFC 6587 §3.4.1).

/// A message, field by field; none for `-`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Facility times eight plus severity.
    pub priority: u8,
    /// TIMESTAMP.
    pub time: Option<String>,
    /// HOSTNAME.
    pub host_name: Option<String>,
    /// APP-NAME.
    pub app_name: Option<String>,
    /// PROCID.
    pub process: Option<String>,
    /// MSGID.
    pub id: Option<String>,
    /// SD-ELEMENTs: the SD-ID and its parameters.
    pub data: Vec<(String, Vec<(String, String)>)>,
    /// MSG.
    pub text: String,
}

impl Message {
    /// The first parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.data
            .iter()
            .flat_map(|(_, parameters)| parameters)
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

type Result<T> = std::result::Result<T, String>;

/// The messages of a stream; the rest is what is not complete.
pub fn frames(mut stream: &[u8]) -> Result<(Vec<&[u8]>, &[u8])> {
    let mut frames = Vec::new();
    loop {
        let digits = stream
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let Some(after) = stream.get(digits) else {
            return Ok((frames, stream));
        };
        if *after != b' ' || digits == 0 || stream[0] == b'0' {
            return Err(format!(
                "no length: {:?}",
                String::from_utf8_lossy(&stream[..stream.len().min(40)])
            ));
        }
        let length: usize = std::str::from_utf8(&stream[..digits])
            .map_err(|error| error.to_string())?
            .parse()
            .map_err(|_| "a length beyond all bounds".to_owned())?;
        let rest = &stream[digits + 1..];
        if rest.len() < length {
            return Ok((frames, stream));
        }
        frames.push(&rest[..length]);
        stream = &rest[length..];
    }
}

/// Parses one message.
pub fn parse(message: &[u8]) -> Result<Message> {
    let text = std::str::from_utf8(message).map_err(|error| format!("not UTF-8: {error}"))?;
    let rest = text.strip_prefix('<').ok_or("no <")?;
    let (priority, rest) = rest.split_once('>').ok_or("no >")?;
    let plain = (1..=3).contains(&priority.len())
        && priority.bytes().all(|byte| byte.is_ascii_digit())
        && (priority == "0" || !priority.starts_with('0'));
    let priority: u8 = priority.parse().map_err(|_| "no PRI")?;
    if !plain || priority > 191 {
        return Err(format!("not a PRI: {priority}"));
    }
    let rest = rest.strip_prefix("1 ").ok_or("not version 1")?;
    let (time, rest) = field(rest, 32)?;
    if let Some(time) = &time {
        check_time(time)?;
    }
    let (host_name, rest) = field(rest, 255)?;
    let (app_name, rest) = field(rest, 48)?;
    let (process, rest) = field(rest, 128)?;
    let (id, rest) = field(rest, 32)?;
    let (data, rest) = structured_data(rest)?;
    let text = match rest {
        "" => "",
        rest => rest.strip_prefix(' ').ok_or("no blank before MSG")?,
    };
    Ok(Message {
        priority,
        time,
        host_name,
        app_name,
        process,
        id,
        data,
        text: text.to_owned(),
    })
}

/// Printable ASCII up to a blank.
fn field(text: &str, most: usize) -> Result<(Option<String>, &str)> {
    let (field, rest) = text.split_once(' ').ok_or("a field is missing")?;
    if !(1..=most).contains(&field.len()) || !field.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("not a field of at most {most}: {field:?}"));
    }
    Ok(((field != "-").then(|| field.to_owned()), rest))
}

fn check_time(time: &str) -> Result<()> {
    let fault = || format!("not a TIMESTAMP: {time:?}");
    let bytes = time.as_bytes();
    let number = |at: usize, length: usize| -> Option<u32> {
        let digits = time.get(at..at + length)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let good = number(0, 4).is_some()
        && number(5, 2).is_some_and(|month| (1..=12).contains(&month))
        && number(8, 2).is_some_and(|day| (1..=31).contains(&day))
        && number(11, 2).is_some_and(|hour| hour < 24)
        && number(14, 2).is_some_and(|minute| minute < 60)
        && number(17, 2).is_some_and(|second| second < 60)
        && punctuation
            .iter()
            .all(|(at, byte)| bytes.get(*at) == Some(byte));
    if !good {
        return Err(fault());
    }
    let mut zone = &time[19..];
    if let Some(fraction) = zone.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=6).contains(&digits) {
            return Err(fault());
        }
        zone = &fraction[digits..];
    }
    // The encoder writes UTC only.
    if zone == "Z" { Ok(()) } else { Err(fault()) }
}

type Elements = Vec<(String, Vec<(String, String)>)>;

fn structured_data(text: &str) -> Result<(Elements, &str)> {
    if let Some(rest) = text.strip_prefix('-') {
        return Ok((Vec::new(), rest));
    }
    let mut elements = Vec::new();
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix('[') {
        let end = inside.find([' ', ']']).ok_or("an SD-ELEMENT without end")?;
        let id = name(&inside[..end])?;
        if let Some((_, number)) = id.split_once('@')
            && (number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(format!("not a private enterprise number: {id}"));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        rest = &inside[end..];
        while let Some(parameter) = rest.strip_prefix(' ') {
            let (key, value) = parameter.split_once("=\"").ok_or("not an SD-PARAM")?;
            let key = name(key)?;
            let (value, after) = value_of(value)?;
            if parameters.iter().any(|(known, _)| *known == key) {
                return Err(format!("twice: {key}"));
            }
            parameters.push((key, value));
            rest = after;
        }
        rest = rest.strip_prefix(']').ok_or("no ] after an SD-ELEMENT")?;
        elements.push((id, parameters));
    }
    if elements.is_empty() {
        return Err("no STRUCTURED-DATA".to_owned());
    }
    Ok((elements, rest))
}

fn name(text: &str) -> Result<String> {
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    if (1..=32).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("not an SD-NAME: {text:?}"))
    }
}

fn value_of(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, one)) = characters.next() {
        match one {
            '"' => return Ok((value, &text[at + 1..])),
            ']' => return Err("] that is not escaped".to_owned()),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\' | ']'))) => value.push(escaped),
                _ => return Err("an escape that RFC 5424 does not have".to_owned()),
            },
            one => value.push(one),
        }
    }
    Err("a PARAM-VALUE without end".to_owned())
}
