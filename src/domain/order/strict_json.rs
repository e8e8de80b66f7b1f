//! JSON read strictly: UTF-8, no key twice in an object, and the place of the first fault.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::domain::order::fault::{Fault, Reason};
use crate::domain::text::one_line;

/// A mark that some programs put before UTF-8 (Unicode 16, 23.8); it is no part of the document.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes as text, within the size limit.
pub fn read_text(bytes: &[u8], max_bytes: usize) -> Result<&str, Fault> {
    if bytes.len() > max_bytes {
        return Err(Fault::whole(
            Reason::TooLarge,
            format!("{} bytes; at most {max_bytes} are accepted (intake.max_bytes)", bytes.len()),
        ));
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    std::str::from_utf8(bytes)
        .map_err(|e| Fault::at(Reason::NotUtf8, format!("byte {}", e.valid_up_to()), "not UTF-8"))
}

/// Reads `text` as `T`, refusing objects with a duplicate key. If that fails, it is read once more
/// to find the place, so that valid documents do not pay for it.
pub fn read_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    refuse_duplicate_keys(text)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    object(&mut reader).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_str(text);
        let mut track = serde_path_to_error::Track::new();
        object(serde_path_to_error::Deserializer::new(&mut reader, &mut track))
            .map_err(|e| Fault::at(Reason::Schema, pointer_of(&track.path()), without_position(&e)))
    })
}

/// Reads a struct from an object only: serde alone would take a list of its fields as well.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    struct Object<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    reader.deserialize_map(Object(std::marker::PhantomData))
}

/// Reads an optional object: null is none, and so is `[]`, which PHP writes for an empty one.
pub fn object_or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    reader: D,
) -> Result<T, D::Error> {
    struct Maybe<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Maybe<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
            match seq.next_element::<de::IgnoredAny>()? {
                None => Ok(T::default()),
                Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
            }
        }
        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }
    }
    reader.deserialize_any(Maybe(std::marker::PhantomData))
}

pub(super) fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => push_step(&mut pointer, &index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => push_step(&mut pointer, key),
            Segment::Unknown => {}
        }
    }
    if pointer.is_empty() { "/".into() } else { pointer }
}

/// One step of a JSON pointer (RFC 6901), printable and bounded whatever the key is.
fn push_step(pointer: &mut String, key: &str) {
    pointer.push('/');
    pointer.push_str(&one_line(key, 60).replace('~', "~0").replace('/', "~1"));
}

/// serde_json's sentence without its " at line 1 column 20": the pointer says it better.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    one_line(text.strip_suffix(&position).unwrap_or(&text), 300)
}

fn refuse_duplicate_keys(text: &str) -> Result<(), Fault> {
    let mut found = Duplicate::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let walked = Level(&mut found).deserialize(&mut reader).and_then(|()| reader.end());
    let Err(error) = walked else { return Ok(()) };
    if found.is_there {
        let place = found.pointer();
        return Err(Fault::at(Reason::DuplicateKey, place, "this key is in its object twice"));
    }
    Err(Fault::at(
        Reason::NotJson,
        format!("line {}, column {}", error.line(), error.column()),
        match error.classify() {
            serde_json::error::Category::Eof if text.trim().is_empty() => "empty".to_owned(),
            _ => without_position(&error),
        },
    ))
}

/// A duplicate key, and the steps that lead to it, innermost first: they are only collected on the
/// way back, so that a valid document costs nothing.
#[derive(Default)]
struct Duplicate {
    is_there: bool,
    steps: Vec<String>,
}

impl Duplicate {
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        self.steps.iter().rev().for_each(|step| push_step(&mut pointer, step));
        pointer
    }
}

/// One value of a document that is walked through without being built.
struct Level<'w>(&'w mut Duplicate);

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            if !keys.insert(key.clone()) {
                self.0.is_there = true;
                self.0.steps.push(key.into_owned());
                return Err(de::Error::custom("duplicate key"));
            }
            map.next_value_seed(Level(self.0)).inspect_err(|_| {
                if self.0.is_there {
                    self.0.steps.push(key.into_owned());
                }
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0usize;
        loop {
            let next = seq.next_element_seed(Level(self.0)).inspect_err(|_| {
                if self.0.is_there {
                    self.0.steps.push(index.to_string());
                }
            })?;
            if next.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The keys of one object: compared one by one while they are few, hashed when they are many.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    fn insert(&mut self, key: Cow<'de, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        self.few.push(key);
        if self.few.len() > 16 {
            self.many = self.few.drain(..).collect();
        }
        true
    }
}

/// A key as written in the text, copied only when it contains escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        reader.deserialize_str(Text)
    }
}
