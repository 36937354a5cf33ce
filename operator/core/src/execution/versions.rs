//! What the versions of objects say that a listing of objects does not: that one was deleted, or that another content stands in front
//! of it. Object Lock keeps every version and hinders neither (Amazon S3: "How S3 Object Lock works").

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_log_config::archive::Name;
use percent_encoding::percent_decode_str;

use super::{Damage, Location};
use crate::retention::xml::{Element, Malformed};

/// A version of an object, or a marker that says that the object was deleted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// The object's key.
    pub key: String,
    /// When the store got it, by the store's clock.
    pub stored: Timestamp,
    /// What tells its content from others; none: a marker.
    pub content: Option<Content>,
}

/// What tells the content of a version from others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Content {
    /// As the store calls it.
    pub etag: String,
    /// Bytes.
    pub size: String,
}

/// A part of a listing (Amazon S3: `ListObjectVersions`, with `encoding-type=url`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// Versions, those of one key together.
    pub versions: Vec<Version>,
    /// The key and the version after which the next part begins; none: this is the last.
    pub next: Option<(String, String)>,
}

impl Page {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let root = Element::parse(text)?;
        if root.name != "ListVersionsResult" {
            return Err(Malformed::Unexpected("listing of versions"));
        }
        let is_encoded = root.text_of("EncodingType") == Some("url");
        let key_of = |text: &str| {
            if is_encoded {
                let text = text.replace('+', " ");
                percent_decode_str(&text).decode_utf8_lossy().into_owned()
            } else {
                text.to_owned()
            }
        };
        let version = |element: &Element| -> Option<Result<Version, Malformed>> {
            let text = |name| element.text_of(name).unwrap_or_default();
            let content = match element.name.as_str() {
                "Version" => Some(Content {
                    etag: text("ETag").to_owned(),
                    size: text("Size").to_owned(),
                }),
                "DeleteMarker" => None,
                _ => return None,
            };
            let stored = text("LastModified").parse();
            Some(match stored {
                Ok(stored) => Ok(Version {
                    key: key_of(text("Key")),
                    stored,
                    content,
                }),
                Err(_) => Err(Malformed::Unexpected("time of a version")),
            })
        };
        let versions = root.children.iter().filter_map(version);
        let mut versions: Vec<Version> = versions.collect::<Result<_, _>>()?;
        // Some stores list all markers of a part behind all versions of it.
        versions.sort_by(|one, other| one.key.cmp(&other.key));
        let is_cut = root.text_of("IsTruncated") == Some("true");
        let next = root.text_of("NextKeyMarker").filter(|_| is_cut);
        if is_cut && next.is_none() {
            return Err(Malformed::Unexpected("end of a part of a listing"));
        }
        let version = root.text_of("NextVersionIdMarker").unwrap_or_default();
        Ok(Self {
            versions,
            next: next.map(|key| (key_of(key), version.to_owned())),
        })
    }
}

/// Which objects are judged, and by what.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Where they are.
    pub location: Location,
    /// For how long objects are kept; none: for ever, or nobody says.
    pub retention: Option<SignedDuration>,
    /// What was stored before is not asked for.
    pub from: Option<Timestamp>,
    /// The sinks whose objects are asked for, as keys have them; none: all.
    pub routes: Option<BTreeSet<String>>,
}

/// Follows a listing of versions and judges those of each key that an agent has written.
#[derive(Clone, Debug)]
pub struct Versions {
    judged: Judged,
    of_key: Option<Known>,
}

/// What is known of the versions of a key.
#[derive(Clone, Debug)]
struct Known {
    key: String,
    contents: u64,
    oldest: Timestamp,
    newest: Timestamp,
    content: Option<Content>,
    differ: bool,
    /// The first marker.
    marker: Option<Timestamp>,
}

impl Known {
    fn of(key: String) -> Self {
        Self {
            key,
            contents: 0,
            oldest: Timestamp::MAX,
            newest: Timestamp::MIN,
            content: None,
            differ: false,
            marker: None,
        }
    }

    fn add(&mut self, version: Version) {
        let stored = version.stored;
        let Some(content) = version.content else {
            self.marker = Some(self.marker.map_or(stored, |first| first.min(stored)));
            return;
        };
        self.contents += 1;
        self.oldest = self.oldest.min(stored);
        self.newest = self.newest.max(stored);
        match &self.content {
            // What is sent again is the same bytes.
            Some(known) => self.differ |= *known != content,
            None => self.content = Some(content),
        }
    }
}

impl Versions {
    /// Nothing is followed yet.
    pub fn new(judged: Judged) -> Self {
        Self {
            judged,
            of_key: None,
        }
    }

    /// The next version of a listing; what is wrong with the key before it, and whose it is, as keys have sinks.
    pub fn add(&mut self, version: Version) -> Option<(String, Damage)> {
        let is_same = |known: &Known| known.key == version.key;
        let damage = if self.of_key.as_ref().is_some_and(is_same) {
            None
        } else {
            let before = self.of_key.replace(Known::of(version.key.clone()));
            before.and_then(|before| self.judge(before))
        };
        if let Some(known) = &mut self.of_key {
            known.add(version);
        }
        damage
    }

    /// The listing has ended; what is wrong with its last key.
    pub fn finish(mut self) -> Option<(String, Damage)> {
        let last = self.of_key.take()?;
        self.judge(last)
    }

    fn judge(&self, known: Known) -> Option<(String, Damage)> {
        let Judged {
            location,
            retention,
            from,
            routes,
        } = &self.judged;
        let name = Name::parse(location.name(&known.key)?)?;
        let (Name::Object(run, _) | Name::Record(run)) = &name;
        let is_asked_for = routes
            .as_ref()
            .is_none_or(|routes| routes.contains(&run.route))
            && from.is_none_or(|from| known.oldest >= from);
        // A marker of which no version is left says no more than that the object is not there.
        if known.contents == 0 || !is_asked_for {
            return None;
        }
        let is_expiry = |marker: Timestamp| {
            let age = marker.duration_since(known.oldest);
            retention.is_some_and(|retention| age >= retention)
        };
        if let Some(at) = known.marker.filter(|marker| !is_expiry(*marker)) {
            return Some((run.route.clone(), Damage::Deleted { key: known.key, at }));
        }
        // A pod that went on after its record has another one.
        let is_record = matches!(name, Name::Record(_));
        let replaced = Damage::Replaced {
            key: known.key,
            versions: known.contents,
            newest: known.newest,
        };
        (known.differ && !is_record).then(|| (run.route.clone(), replaced))
    }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::{BucketName, Endpoint, KeyPrefix};

    use super::*;

    const OBJECT: &str = "logs/audit/p/t_u/c/0000-5c3e9a01-00000000-8a6c1f22e0b94d17-0-9.ndjson.gz";
    const RECORD: &str = "logs/audit/p/t_u/c/0000-5c3e9a01-complete.json";

    fn location() -> Location {
        Location::s3(
            BucketName::try_from("audit".to_owned()).unwrap(),
            None,
            Some(Endpoint::try_from("https://s3.example.com".to_owned()).unwrap()),
            Some(KeyPrefix::try_from("logs".to_owned()).unwrap()),
        )
        .unwrap()
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_796_000_000 + day * 86_400).unwrap()
    }

    fn version(key: &str, day: i64, etag: &str) -> Version {
        let content = Content {
            etag: etag.to_owned(),
            size: "7".to_owned(),
        };
        Version {
            key: key.to_owned(),
            stored: at(day),
            content: Some(content),
        }
    }

    fn marker(key: &str, day: i64) -> Version {
        Version {
            content: None,
            ..version(key, day, "")
        }
    }

    fn told(retention: Option<i64>, versions: &[Version]) -> Vec<String> {
        let judged = Judged {
            location: location(),
            retention: retention.map(|days| SignedDuration::from_hours(24 * days)),
            from: None,
            routes: None,
        };
        judge(judged, versions)
    }

    fn judge(judged: Judged, versions: &[Version]) -> Vec<String> {
        let mut judged = Versions::new(judged);
        let mut damages: Vec<(String, Damage)> = versions
            .iter()
            .filter_map(|version| judged.add(version.clone()))
            .collect();
        damages.extend(judged.finish());
        assert!(damages.iter().all(|(route, _)| route == "5c3e9a01"));
        damages
            .iter()
            .map(|(_, damage)| damage.to_string())
            .collect()
    }

    #[test]
    fn a_marker_and_another_content_are_named_and_nothing_else_is() {
        let one = version(OBJECT, 0, "a");
        let none = Vec::<String>::new();
        assert_eq!(told(None, std::slice::from_ref(&one)), none);
        assert_eq!(
            told(None, &[version(OBJECT, 1, "a"), one.clone()]),
            none,
            "what is sent again is no change"
        );
        assert_eq!(
            told(
                None,
                &[marker(OBJECT, 3), one.clone(), version(RECORD, 1, "r")]
            ),
            [format!(
                "{OBJECT} was deleted, at {}: its versions are there behind a marker, which `aws s3api list-object-versions` shows",
                at(3)
            )]
        );
        assert_eq!(
            told(None, &[version(OBJECT, 2, "b"), one.clone()]),
            [format!(
                "{OBJECT} was replaced: it has 2 versions that differ, the newest of {}, and what is read is that one",
                at(2)
            )]
        );
        // Deleted, and put back.
        assert_eq!(
            told(
                None,
                &[version(OBJECT, 4, "a"), marker(OBJECT, 3), one.clone()]
            )
            .len(),
            1
        );
        // Records of a pod that went on; what is nobody's of ours; what has no version any more.
        for fine in [
            [version(RECORD, 2, "b"), version(RECORD, 1, "a")],
            [
                version("logs/audit/x", 2, "b"),
                version("logs/audit/x", 1, "a"),
            ],
            [marker(OBJECT, 3), marker(OBJECT, 2)],
        ] {
            assert_eq!(told(None, &fine), none);
        }
    }

    #[test]
    fn what_expires_is_not_deleted() {
        let versions = |day| [marker(OBJECT, day), version(OBJECT, 0, "a")];
        assert_eq!(told(Some(30), &versions(30)), Vec::<String>::new());
        assert_eq!(told(Some(30), &versions(29)).len(), 1);
        assert_eq!(told(None, &versions(400)).len(), 1);
    }

    #[test]
    fn what_is_not_asked_for_is_not_judged() {
        let versions = [marker(OBJECT, 3), version(OBJECT, 0, "a")];
        let told = |from: Option<i64>, route: Option<&str>| {
            let judged = Judged {
                location: location(),
                retention: None,
                from: from.map(at),
                routes: route.map(|route| [route.to_owned()].into()),
            };
            judge(judged, &versions).len()
        };
        assert_eq!((told(None, None), told(Some(0), Some("5c3e9a01"))), (1, 1));
        assert_eq!((told(Some(1), None), told(None, Some("aaaaaaaa"))), (0, 0));
    }

    #[test]
    fn a_listing_is_read_with_its_keys_and_where_the_next_begins() {
        let page = Page::parse(
            "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <NextKeyMarker>logs/a%20b%2B</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>\
             <DeleteMarker><Key>logs/a+b%2B</Key><LastModified>2026-11-30T09:12:44.000Z</LastModified><IsLatest>true</IsLatest></DeleteMarker>\
             <Version><Key>logs/a+b%2B</Key><LastModified>2026-11-30T09:12:43.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size></Version>\
             <CommonPrefixes/></ListVersionsResult>",
        )
        .unwrap();
        assert_eq!(page.next, Some(("logs/a b+".into(), "v2".into())));
        assert_eq!(page.versions.len(), 2);
        assert_eq!(page.versions[0].content, None);
        assert_eq!(page.versions[1].key, "logs/a b+");
        let content = page.versions[1].content.as_ref().unwrap();
        assert_eq!((&*content.etag, &*content.size), ("\"e\"", "7"));
        let last = Page::parse(
            "<ListVersionsResult><IsTruncated>false</IsTruncated><NextKeyMarker>x</NextKeyMarker></ListVersionsResult>",
        );
        assert_eq!(last.unwrap().next, None);
        for none in [
            "",
            "<Error/>",
            "<ListBucketResult/>",
            // It goes on, and does not say where; when it was stored, nobody can tell.
            "<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>",
            "<ListVersionsResult><DeleteMarker><Key>k</Key></DeleteMarker></ListVersionsResult>",
        ] {
            assert!(Page::parse(none).is_err(), "{none}");
        }
    }
}
