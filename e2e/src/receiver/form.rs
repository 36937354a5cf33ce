//! Forms as they come (URL Standard: "application/x-www-form-urlencoded").

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;

use super::Request;

/// Names and values of a form that is posted; none where it is none.
pub(super) fn read(request: &Request<'_>) -> Option<BTreeMap<String, String>> {
    let is_form = *request.method == Method::POST
        && request.content_type() == Some("application/x-www-form-urlencoded");
    let body = str::from_utf8(request.body).ok().filter(|_| is_form)?;
    let pairs = body.split('&').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value).decode_utf8().ok()?;
        Some((name.to_owned(), value.into_owned()))
    });
    pairs.collect()
}
