//! How ids and addresses travel as text: one macro for serde, one function for quoting what a stranger wrote.

/// Serialize as `Display`, deserialize through `FromStr`, so that no unchecked value comes in by the side door.
macro_rules! serde_as_text {
    ($type:ty, $what:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
pub(crate) use serde_as_text;

/// `text` in quotes, with control and formatting characters escaped and the length bounded, for use in a message.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_QUOTED: usize = 96;
    let mut out = String::from("\"");
    let mut characters = text.chars();
    out.extend(
        characters
            .by_ref()
            .take(MAX_QUOTED)
            .flat_map(char::escape_debug),
    );
    if characters.next().is_some() {
        out.push('…');
    }
    out.push('"');
    out
}

/// Deserializers for maps and sets that refuse what serde would silently merge: the same key twice.
pub(crate) mod unique {
    use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt;
    use std::marker::PhantomData;

    /// For `#[serde(deserialize_with = ...)]` on a map.
    pub(crate) fn map<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord + fmt::Display,
        V: Deserialize<'de>,
    {
        struct Unique<K, V>(PhantomData<(K, V)>);
        impl<'de, K, V> Visitor<'de> for Unique<K, V>
        where
            K: Deserialize<'de> + Ord + fmt::Display,
            V: Deserialize<'de>,
        {
            type Value = BTreeMap<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with each key once")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<K, V>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("{key} is written twice")));
                    }
                    map.insert(key, value);
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Unique(PhantomData))
    }

    /// For `#[serde(deserialize_with = ...)]` on a set.
    pub(crate) fn set<'de, D, K>(deserializer: D) -> Result<BTreeSet<K>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord + fmt::Display,
    {
        struct Unique<K>(PhantomData<K>);
        impl<'de, K: Deserialize<'de> + Ord + fmt::Display> Visitor<'de> for Unique<K> {
            type Value = BTreeSet<K>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list with each item once")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut set = BTreeSet::new();
                while let Some(item) = access.next_element::<K>()? {
                    if set.contains(&item) {
                        return Err(A::Error::custom(format_args!("{item} is written twice")));
                    }
                    set.insert(item);
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Unique(PhantomData))
    }
}
