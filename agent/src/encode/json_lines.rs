//! One JSON object a line, for servers that take any JSON.

use serde_json::{Map, Value};

use super::{
    Origin, fields,
    json::{inside, write_escaped},
};
use crate::cri::Stream;

/// Everything between the time and the offset at the end of the record's id.
pub(super) fn head(origin: &Origin<'_>, stream: Stream) -> Vec<u8> {
    let mut object = fields(origin, stream);
    object.insert("restart".into(), origin.restart.into());
    let labels: Map<String, Value> = origin
        .labels
        .iter()
        .map(|(label, value)| (label.clone(), value.clone().into()))
        .collect();
    object.insert("labels".into(), labels.into());
    let mut head = br#"","#.to_vec();
    head.extend(inside(&object));
    head.extend_from_slice(br#","record_id":""#);
    write_escaped(origin.file_id.as_bytes(), &mut head);
    head.push(b'-');
    head
}

/// Appends the rest of an object after its id.
pub(super) fn write_message(content: &[u8], marker: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"","message":""#);
    write_escaped(content, out);
    out.extend_from_slice(marker.as_bytes());
    out.extend_from_slice(b"\"}\n");
}
