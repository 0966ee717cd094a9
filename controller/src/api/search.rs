//! What `ddadm queue search` finds: in the queue, and in the history of what is settled.

use std::collections::BTreeMap;

use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use dd_proto::pattern::Pattern;
use dd_proto::pb;
use tonic::Status;

use super::queue::{PAGE, rows};
use super::{Context, from_ms, status};
use crate::ledger::search::{self, Found, Told, Wanted};
use crate::ledger::{AND_MORE, Entry};
use crate::store;

const USUAL: u32 = 100;
const MOST: u32 = 10_000;

/// By id; the newest last.
type Waiting = BTreeMap<String, Vec<pb::QueuedDelivery>>;

pub(super) async fn search(
    context: &Context,
    request: pb::SearchRequest,
) -> Result<Vec<pb::FoundDelivery>, Status> {
    let (wanted, limit) = wanted(request)?;
    let history = search::search(&context.facts.state_dir, wanted.clone(), limit).await;
    let history = history.map_err(|error| status::trouble(&error))?;
    let waiting = waiting(context, &wanted, &history, limit).await?;
    let mut found = together(history, waiting, limit);
    if let Some(site) = &wanted.site {
        found.retain(|it| it.site == *site || it.site == AND_MORE);
        // A site that was removed is known by its messages.
        if found.is_empty() && !is_known(context, site) {
            return Err(status::unknown("site", site));
        }
    }
    Ok(found)
}

fn is_known(context: &Context, site: &str) -> bool {
    let smarthost = context.registry.smarthost();
    let is_built_in = smarthost.is_some_and(|it| it.name.as_str() == site);
    let name = site.parse::<SiteName>().ok();
    is_built_in || name.is_some_and(|name| context.registry.site(&name).is_some())
}

fn wanted(request: pb::SearchRequest) -> Result<(Wanted, usize), Status> {
    let pattern = |text: String| -> Option<Pattern> {
        let Ok(pattern) = text.parse();
        (!text.is_empty()).then_some(pattern)
    };
    let id = match &*request.id {
        "" => None,
        id => {
            let id: MessageId = id.parse().map_err(|_| {
                status::invalid("the ID is malformed: expected the one that `queued as` says")
            })?;
            Some(id.to_string())
        }
    };
    let limit = match request.limit {
        0 => USUAL,
        limit => limit.min(MOST),
    };
    let wanted = Wanted {
        id,
        message_id: pattern(request.message_id),
        reverse_path: pattern(request.reverse_path),
        recipient: pattern(request.recipient),
        site: (!request.site.is_empty()).then_some(request.site),
        since: from_ms(request.since_ms)?,
        until: from_ms(request.until_ms)?,
    };
    Ok((wanted, usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// What of the queue is wanted. By an ID it is looked up, and by a Message-ID those are that the history knows by it: the
/// queue itself has none. Whatever else is said, the queue is gone through.
async fn waiting(
    context: &Context,
    wanted: &Wanted,
    history: &Found,
    limit: usize,
) -> Result<Waiting, Status> {
    let site: Option<SiteName> = match &wanted.site {
        None => None,
        Some(name) => Some(name.parse().map_err(|_| status::unknown("site", name))?),
    };
    let mut found = Waiting::new();
    if wanted.id.is_some() || wanted.message_id.is_some() {
        let ids: Vec<&String> = match wanted.message_id {
            Some(_) => history.keys().collect(),
            None => wanted.id.iter().collect(),
        };
        for id in ids
            .into_iter()
            .filter_map(|id| id.parse::<MessageId>().ok())
        {
            let mut open = context.store.find(id).await?;
            open.retain(|it| site.as_ref().is_none_or(|site| it.delivery.site == *site));
            add(context, wanted, open, &mut found).await?;
        }
        return Ok(found);
    }
    let mut after = None;
    loop {
        let reading = context.store.list(site.clone(), after, PAGE);
        let (page, next) = reading.await?;
        add(context, wanted, page, &mut found).await?;
        while found.len() > limit {
            found.pop_first();
        }
        if next.is_none() {
            return Ok(found);
        }
        after = next;
    }
}

/// Those that are wanted, each once.
async fn add(
    context: &Context,
    wanted: &Wanted,
    mut some: Vec<store::Waiting>,
    found: &mut Waiting,
) -> Result<(), Status> {
    some.retain(|it| wanted.time(it.arrived));
    for (row, _) in rows(context, some).await? {
        let recipients = row.recipients.iter().map(String::as_str);
        if wanted.sender(&row.reverse_path) && wanted.recipients(recipients) {
            let of_message = found.entry(row.id.clone()).or_default();
            if of_message.iter().all(|known| known.site != row.site) {
                of_message.push(row);
            }
        }
    }
    Ok(())
}

/// The newest first; of each message what is settled, then what waits. Pure.
fn together(mut history: Found, mut waiting: Waiting, limit: usize) -> Vec<pb::FoundDelivery> {
    let mut ids: Vec<String> = history.keys().chain(waiting.keys()).cloned().collect();
    ids.sort_unstable();
    ids.dedup();
    let newest = ids.into_iter().rev().take(limit);
    newest
        .flat_map(|id| {
            let told = history.remove(&id).unwrap_or_default();
            message(&told, waiting.remove(&id).unwrap_or_default())
        })
        .collect()
}

fn message(told: &Told, waiting: Vec<pb::QueuedDelivery>) -> Vec<pb::FoundDelivery> {
    let mut found: Vec<pb::FoundDelivery> = told.ended.iter().map(ended).collect();
    found.extend(waiting.into_iter().map(waits));
    // Of what the queue does not have, and whose end was not kept, it is known that it came.
    if found.is_empty()
        && let Some(accepted) = &told.accepted
    {
        let sites = accepted.site.split(',').map(str::to_owned);
        found.extend(sites.map(|site| pb::FoundDelivery {
            site,
            stands: "accepted".to_owned(),
            ..entry(accepted)
        }));
    }
    for it in &mut found {
        if let Some(accepted) = &told.accepted {
            it.message_id.clone_from(&accepted.message_id);
            it.bytes = accepted.bytes.parse().unwrap_or(0);
            it.client.clone_from(&accepted.client);
        }
        it.arrived_ms = search::arrived(&it.id).map_or(0, |at| at.as_millisecond());
    }
    found
}

fn entry(it: &Entry) -> pb::FoundDelivery {
    pb::FoundDelivery {
        id: it.id.clone(),
        message_id: it.message_id.clone(),
        site: it.site.clone(),
        reverse_path: it.reverse_path.clone(),
        recipients: it.recipients.split(',').map(str::to_owned).collect(),
        agent: it.agent.clone(),
        address: it.address.clone(),
        reply: it.reply.clone(),
        ..pb::FoundDelivery::default()
    }
}

fn ended(it: &Entry) -> pb::FoundDelivery {
    pb::FoundDelivery {
        stands: it.what.replace(' ', "-"),
        ended_ms: it.at.as_millisecond(),
        ..entry(it)
    }
}

fn waits(it: pb::QueuedDelivery) -> pb::FoundDelivery {
    pb::FoundDelivery {
        id: it.id,
        site: it.site,
        reverse_path: it.reverse_path,
        recipients: it.recipients,
        bytes: it.bytes,
        stands: it.stands,
        reply: it.last,
        ..pb::FoundDelivery::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "01f2e4a07c00700080000000000000a1";
    const NEW: &str = "01f2e4a08c00700080000000000000b2";

    fn said(id: &str, what: &str, site: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            what: what.to_owned(),
            site: site.to_owned(),
            message_id: "<1@b.example>".to_owned(),
            bytes: "281".to_owned(),
            client: "192.0.2.1".to_owned(),
            ..Entry::default()
        }
    }

    fn waits_at(id: &str, site: &str) -> pb::QueuedDelivery {
        pb::QueuedDelivery {
            id: id.to_owned(),
            site: site.to_owned(),
            stands: "held".to_owned(),
            ..pb::QueuedDelivery::default()
        }
    }

    #[test]
    fn the_newest_come_first_and_each_says_where_it_stands_at_each_site() {
        let both = Told {
            accepted: Some(said(OLD, "accepted", "home,office")),
            ended: vec![said(OLD, "given up", "home")],
        };
        let lost = Told {
            accepted: Some(said(NEW, "accepted", "home,shed")),
            ended: Vec::new(),
        };
        let history = Found::from([(OLD.to_owned(), both), (NEW.to_owned(), lost)]);
        let waiting = Waiting::from([(OLD.to_owned(), vec![waits_at(OLD, "office")])]);
        let shown = |limit| {
            let found = together(history.clone(), waiting.clone(), limit);
            let line = |it: &pb::FoundDelivery| {
                format!(
                    "{} {} {} {}",
                    &it.id[30..],
                    it.site,
                    it.stands,
                    it.message_id
                )
            };
            found.iter().map(line).collect::<Vec<_>>()
        };
        let all = [
            "b2 home accepted <1@b.example>",
            "b2 shed accepted <1@b.example>",
            "a1 home given-up <1@b.example>",
            "a1 office held <1@b.example>",
        ];
        assert_eq!(shown(10), all);
        assert_eq!(shown(1), all[..2]);
    }
}
