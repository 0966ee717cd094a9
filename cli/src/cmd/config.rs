//! `ddadm config`: what the controller goes by, and where each value comes from.

use dd_proto::pb;
use serde::Serialize;
use serde_json::Value;

use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Table};

pub(crate) async fn run(changed: bool, controller: &Controller) -> Result<Answer, Failure> {
    let watch = controller.watch().await?;
    let config = { watch }.config(pb::ConfigRequest {}).await;
    let mut config = controller.one(config)?;
    config.settings.retain(|it| !changed || it.line > 0);
    Ok(answer(config))
}

#[derive(Debug, Serialize)]
struct View {
    path: String,
    /// The next start finds something else.
    file_changed: bool,
    settings: Vec<Setting>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    /// As in the file; null: none.
    value: Value,
    /// file, or default.
    source: &'static str,
    line: Option<u32>,
}

impl From<pb::Setting> for Setting {
    fn from(it: pb::Setting) -> Self {
        Self {
            value: serde_json::from_str(&it.value).unwrap_or_default(),
            key: it.key,
            source: match it.line {
                0 => "default",
                _ => "file",
            },
            line: (it.line > 0).then_some(it.line),
        }
    }
}

fn answer(config: pb::Configuration) -> Answer {
    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
    for it in &config.settings {
        let value = match it.value.as_str() {
            "" => "-".to_owned(),
            value => value.to_owned(),
        };
        let from = match it.line {
            0 => "default".to_owned(),
            line => format!("{}:{line}", config.path),
        };
        table.row([it.key.clone(), value, from]);
    }
    let mut text = table.text("the file says nothing");
    if config.file_changed {
        text.push_str(&format!(
            "{} has been changed since the start: `dd-controller --check --config {}`, then start again\n",
            config.path, config.path
        ));
    }
    let view = View {
        path: config.path,
        file_changed: config.file_changed,
        settings: config.settings.into_iter().map(Setting::from).collect(),
    };
    Answer::new(&view, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_says_where_it_comes_from() {
        let setting = |key: &str, value: &str, line| pb::Setting {
            key: key.into(),
            value: value.into(),
            line,
        };
        let config = pb::Configuration {
            path: "/etc/dd/controller.toml".into(),
            settings: vec![
                setting("hostname", "\"mail.example.net\"", 9),
                setting("intake.smtp", "[\"0.0.0.0:25\"]", 0),
                setting("web.listen", "", 0),
            ],
            file_changed: true,
        };
        insta::assert_snapshot!(answer(config).both());
    }
}
