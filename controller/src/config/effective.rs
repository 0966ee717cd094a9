//! The configuration that is in force, key by key, and where each value comes from: what `ddadm config` shows.
//!
//! The file that packages install has every key, with the default where there is one (tests hold it to that). So nobody
//! lists keys or defaults a second time: a value of that file that changes nothing is the default.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, line_of};
use dd_service::reference::uncommented;

/// As it is installed.
const REFERENCE: &str = include_str!("../../../packaging/etc/controller.toml");

/// What was read at the start.
#[derive(Debug, Clone, Default)]
pub struct Effective {
    pub path: PathBuf,
    /// In the order of the file that is installed.
    pub settings: Vec<Setting>,
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// With its table.
    pub key: String,
    pub value: Option<Value>,
    /// Where the file says it; None: it is the default.
    pub line: Option<usize>,
}

impl Effective {
    pub fn read(path: &Path, config: &Config) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Self {
            path: path.to_owned(),
            settings: settings(&text, config),
            text,
        }
    }

    /// Whether the file is another one by now.
    pub fn has_changed(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|now| now != self.text)
    }
}

fn settings(text: &str, config: &Config) -> Vec<Setting> {
    let said = keys(text);
    let shown = keys(&uncommented(REFERENCE));
    let setting = |key: &Key| match said.iter().find(|it| it.name == key.name) {
        Some(said) => Setting {
            key: key.name.clone(),
            value: Some(without_password(said.value.clone())),
            line: Some(line_of(text, said.offset)),
        },
        None => Setting {
            key: key.name.clone(),
            value: default(key, config),
            line: None,
        },
    };
    shown.iter().map(setting).collect()
}

/// Where a text sets a key; its beginning where it does not.
pub(super) fn offset_of(text: &str, name: &str) -> usize {
    let keys = keys(text);
    let found = keys.iter().find(|key| key.name == name);
    found.map_or(0, |key| key.offset)
}

/// A key that a file sets.
#[derive(Debug)]
struct Key {
    name: String,
    value: Value,
    offset: usize,
}

/// What a file sets, tables taken apart, in its order.
fn keys(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let Ok(table) = toml::de::DeTable::parse(text) else {
        return keys;
    };
    for (key, value) in table.get_ref() {
        let name = key.get_ref().to_string();
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => keys.extend(inner.iter().map(|(key, value)| Key {
                name: format!("{name}.{}", key.get_ref()),
                value: json(value.get_ref()),
                offset: key.span().start,
            })),
            other => keys.push(Key {
                name,
                value: json(other),
                offset: key.span().start,
            }),
        }
    }
    keys.sort_by_key(|key| key.offset);
    keys
}

fn json(value: &toml::de::DeValue<'_>) -> Value {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Integer(number) => number_of(number.as_str()),
        DeValue::Boolean(it) => Value::from(*it),
        DeValue::Array(items) => items.iter().map(|it| json(it.get_ref())).collect(),
        DeValue::Table(table) => {
            let mut pairs = serde_json::Map::new();
            for (key, value) in table {
                pairs.insert(key.get_ref().to_string(), json(value.get_ref()));
            }
            Value::Object(pairs)
        }
        other => Value::from(format!("{other:?}")),
    }
}

fn number_of(text: &str) -> Value {
    let number = text.parse::<i64>();
    number.map_or_else(|_| Value::from(text), Value::from)
}

/// What is in force where the file does not say it; None: nothing is.
fn default(key: &Key, config: &Config) -> Option<Value> {
    match key.name.as_str() {
        "control.socket" => return Some(config.socket().display().to_string().into()),
        "notify.postmaster" => return Some(format!("postmaster@{}", config.hostname).into()),
        "notify.smarthost_tls" => return Some(config.notify.tls().as_str().into()),
        "notify.smarthost_tls_on_connect" => return Some(config.notify.tls_on_connect().into()),
        "web.origin" => return config.web_origin(&[]).map(Value::from),
        _ => {}
    }
    changes_nothing(key).then(|| key.value.clone())
}

/// Whether a configuration with this value is the same as one without it.
fn changes_nothing(key: &Key) -> bool {
    const LEAST: &str = "hostname = \"a.example\"\nstate_dir = \"/s\"\n";
    let with = match key.name.split_once('.') {
        Some((table, name)) => format!("{LEAST}[{table}]\n{name} = {}\n", key.value),
        None => format!("{} = {}\n{LEAST}", key.name, key.value),
    };
    let parsed = |text: &str| Config::parse(text, Path::new("")).map(|it| format!("{it:?}"));
    matches!((parsed(LEAST), parsed(&with)), (Ok(without), Ok(with)) if without == with)
}

/// Of a URL, the user's password is left out.
fn without_password(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(hidden(&text).unwrap_or(text)),
        Value::Array(items) => items.into_iter().map(without_password).collect(),
        Value::Object(pairs) => {
            let pairs = pairs.into_iter();
            Value::Object(
                pairs
                    .map(|(key, value)| (key, without_password(value)))
                    .collect(),
            )
        }
        other => other,
    }
}

/// RFC 3986 §3.2.1: what follows the first colon of the user information; None: there is none.
fn hidden(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, host) = authority.rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    let behind = &rest[authority.len()..];
    Some(format!("{scheme}://{name}:***@{host}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "hostname = \"mail.example.net\"\nstate_dir = \"/s\"\n\n[intake]\n\
        lmtp = [\"127.0.0.1:24\"]\ntls = { certificate = \"a.pem\", key = \"a.key\" }\n\
        [site_defaults]\nretry_interval = \"5m\"\n";

    fn shown(text: &str) -> Vec<String> {
        let config = Config::parse(text, Path::new("controller.toml")).unwrap();
        let line = |it: &Setting| {
            let value = it.value.as_ref().map_or("-".to_owned(), Value::to_string);
            let from = it
                .line
                .map_or("default".to_owned(), |line| format!("line {line}"));
            format!("{} = {value} ({from})", it.key)
        };
        settings(text, &config).iter().map(line).collect()
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let shown = shown(TEXT);
        for expected in [
            "hostname = \"mail.example.net\" (line 1)",
            "intake.lmtp = [\"127.0.0.1:24\"] (line 5)",
            "intake.smtp = [\"0.0.0.0:25\"] (default)",
            "intake.tls = {\"certificate\":\"a.pem\",\"key\":\"a.key\"} (line 6)",
            "intake.max_message_bytes = 52428800 (default)",
            "control.socket = \"/s/admin.sock\" (default)",
            "web.listen = - (default)",
            "web.origin = - (default)",
            "metrics.listen = - (default)",
            "notify.postmaster = \"postmaster@mail.example.net\" (default)",
            "notify.smarthost = - (default)",
            "notify.smarthost_tls = \"opportunistic\" (default)",
            "notify.smarthost_tls_on_connect = false (default)",
            "notify.smarthost_user = - (default)",
            "site_defaults.retry_interval = \"5m\" (line 8)",
            "site_defaults.lifetime = \"14d\" (default)",
            "history.keep = \"14d\" (default)",
        ] {
            assert!(
                shown.iter().any(|it| it == expected),
                "{expected}: {shown:#?}"
            );
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (url, shown) in [
            (
                "postgresql://dd:secret@db1,db2/dd",
                Some("postgresql://dd:***@db1,db2/dd"),
            ),
            (
                "postgresql://dd:a@b@db1/dd?x=1",
                Some("postgresql://dd:***@db1/dd?x=1"),
            ),
            ("postgresql://dd@db1/dd", None),
            ("https://mail.example.net:8443", None),
            ("/var/lib/dd", None),
        ] {
            assert_eq!(hidden(url).as_deref(), shown, "{url}");
        }
    }
}
