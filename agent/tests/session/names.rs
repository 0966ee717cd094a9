//! Names as they really are: slow in one family, wrong at one server, moved a moment ago.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dd_agent::agent::now;
use dd_agent::resolve::{Freshness, News, Resolver};
use dd_proto::site::{Family, HostName};
use hickory_resolver::proto::op::ResponseCode;

use super::name_service::{A, AAAA, HadOpt, NameService, Says, ips, says};

const HOME: &str = "home.example";
const TTL: Duration = Duration::from_secs(60);

fn host(name: &str) -> HostName {
    HostName::Dns(name.parse().unwrap())
}

fn resolver(servers: &[&NameService]) -> Resolver {
    let servers: Vec<SocketAddr> = servers.iter().map(|it| it.address).collect();
    Resolver::new(&servers, TTL).unwrap()
}

/// Well under what a name server is waited for.
fn soon(began: Instant) -> bool {
    now().duration_since(began) < Duration::from_secs(4)
}

#[tokio::test]
async fn a_family_that_does_not_answer_holds_the_other_up_for_a_moment_only() {
    for (answers, hangs) in [(A, AAAA), (AAAA, A)] {
        let dns = NameService::start().await;
        let [there, late] = match answers {
            A => ["192.0.2.1", "2001:db8::1"],
            _ => ["2001:db8::1", "192.0.2.1"],
        };
        dns.set(HOME, answers, says(&[there]));
        dns.set(HOME, hangs, Says::Held(ips(&[late])));
        let (resolver, began) = (resolver(&[&dns]), now());
        let found = resolver
            .addresses(&host(HOME), Family::Any, Freshness::Cached)
            .await
            .unwrap();
        assert!(soon(began));
        assert_eq!((found.addresses, found.news), (ips(&[there]), News::Half));

        // What comes late is not lost: it is waited for by who wants all, and stands in the cache.
        dns.release();
        let found = resolver
            .all_addresses(&host(HOME), Family::Any)
            .await
            .unwrap();
        assert_eq!(found.addresses, ips(&["192.0.2.1", "2001:db8::1"]));
        let asked = dns.asked().len();
        let found = resolver
            .addresses(&host(HOME), Family::Any, Freshness::Cached)
            .await
            .unwrap();
        assert_eq!(found.news, News::Cached);
        assert_eq!(found.addresses, ips(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(dns.asked().len(), asked);
    }
}

#[tokio::test]
async fn where_one_family_is_wanted_its_answer_is_waited_for_and_the_other_not_asked() {
    let dns = NameService::start().await;
    dns.set(HOME, A, says(&["192.0.2.1"]));
    dns.set(HOME, AAAA, Says::Held(ips(&["2001:db8::1"])));
    let resolver = resolver(&[&dns]);
    let home = host(HOME);
    let asking = resolver.addresses(&home, Family::V6, Freshness::Fresh);
    let releasing = async {
        while dns.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        dns.release();
    };
    let (found, ()) = tokio::join!(asking, releasing);
    let found = found.unwrap();
    assert_eq!(found.addresses, ips(&["2001:db8::1"]));
    assert_eq!(found.news, News::Whole);
    assert_eq!(dns.asked().len(), 1);
    // What is kept is of that family alone.
    let known = resolver.addresses(&home, Family::V6, Freshness::Cached);
    assert_eq!(known.await.unwrap().news, News::Cached);
    let other = resolver.addresses(&home, Family::V4, Freshness::Cached);
    assert_eq!(other.await.unwrap().addresses, ips(&["192.0.2.1"]));
}

#[tokio::test]
async fn a_late_answer_is_cached_without_anybody_waiting_for_it() {
    let dns = NameService::start().await;
    dns.set(HOME, A, says(&["192.0.2.1"]));
    dns.set(HOME, AAAA, Says::Held(ips(&["2001:db8::1"])));
    let resolver = resolver(&[&dns]);
    let found = resolver
        .addresses(&host(HOME), Family::Any, Freshness::Cached)
        .await
        .unwrap();
    assert_eq!(found.news, News::Half);
    dns.release();
    let began = now();
    while found.addresses.len() + 1
        != resolver
            .addresses(&host(HOME), Family::Any, Freshness::Cached)
            .await
            .unwrap()
            .addresses
            .len()
    {
        assert!(soon(began), "the late answer never came");
    }
}

#[tokio::test]
async fn the_newer_answer_replaces_the_older_one() {
    let dns = NameService::start().await;
    let resolver = resolver(&[&dns]);
    let home = host(HOME);
    let addresses = async |freshness| {
        resolver
            .addresses(&home, Family::Any, freshness)
            .await
            .unwrap()
            .addresses
    };
    dns.set(HOME, A, says(&["192.0.2.1"]));
    dns.set(HOME, AAAA, Says::Nothing);
    assert_eq!(addresses(Freshness::Cached).await, ips(&["192.0.2.1"]));
    dns.set(HOME, A, says(&["192.0.2.2"]));
    assert_eq!(addresses(Freshness::Cached).await, ips(&["192.0.2.1"]));
    // A fresh answer is what everybody is told from now on.
    assert_eq!(addresses(Freshness::Fresh).await, ips(&["192.0.2.2"]));
    assert_eq!(addresses(Freshness::Cached).await, ips(&["192.0.2.2"]));
    // And so it is when the name is forgotten.
    dns.set(HOME, A, says(&["192.0.2.3"]));
    resolver.forget(&home);
    assert_eq!(addresses(Freshness::Cached).await, ips(&["192.0.2.3"]));
    // That there is none any more is news too.
    dns.set(HOME, A, Says::Code(ResponseCode::NXDomain));
    assert!(
        resolver
            .addresses(&home, Family::Any, Freshness::Fresh)
            .await
            .is_err()
    );
    assert!(
        resolver
            .addresses(&home, Family::Any, Freshness::Cached)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn ttls_are_kept_and_capped() {
    let dns = NameService::start().await;
    let addresses = || ips(&["192.0.2.1"]);
    let soon_over = Duration::from_millis(1);
    for (ttl, max_ttl, questions) in [(0, TTL, 2), (3600, TTL, 1), (3600, soon_over, 2)] {
        dns.set(HOME, A, Says::Addresses(addresses(), ttl));
        dns.set(HOME, AAAA, Says::Addresses(ips(&["2001:db8::1"]), ttl));
        let before = dns.asked().len();
        let resolver = Resolver::new(&[dns.address], max_ttl).unwrap();
        resolver
            .addresses(&host(HOME), Family::Any, Freshness::Cached)
            .await
            .unwrap();
        let learnt = now();
        while max_ttl == soon_over && now().duration_since(learnt) <= soon_over {
            tokio::task::yield_now().await;
        }
        resolver
            .addresses(&host(HOME), Family::Any, Freshness::Cached)
            .await
            .unwrap();
        assert_eq!(
            dns.asked().len() - before,
            2 * questions,
            "{ttl} {max_ttl:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_of_no_help_is_followed_by_the_next() {
    for trouble in [
        Says::Code(ResponseCode::ServFail),
        Says::Code(ResponseCode::Refused),
        Says::Code(ResponseCode::FormErr),
        Says::Code(ResponseCode::NotImp),
        Says::Silence,
    ] {
        let (bad, good) = (NameService::start().await, NameService::start().await);
        good.set(HOME, A, says(&["192.0.2.1"]));
        good.set(HOME, AAAA, Says::Nothing);
        for kind in [A, AAAA] {
            bad.set(HOME, kind, trouble.clone());
        }
        for servers in [[&bad, &good], [&good, &bad]] {
            let (resolver, began) = (resolver(&servers), now());
            for _ in 0..20 {
                let found = resolver
                    .addresses(&host(HOME), Family::Any, Freshness::Fresh)
                    .await;
                assert_eq!(found.unwrap().addresses, ips(&["192.0.2.1"]), "{trouble:?}");
            }
            // One that is silent is overtaken once, and then comes last.
            assert!(soon(began), "{trouble:?}");
        }
        assert!(!bad.asked().is_empty());
    }
    // That the name does not exist is an answer: nobody else is asked.
    let (first, second) = (NameService::start().await, NameService::start().await);
    second.set(HOME, A, says(&["192.0.2.1"]));
    let resolver = resolver(&[&first, &second]);
    assert!(
        resolver
            .addresses(&host(HOME), Family::Any, Freshness::Fresh)
            .await
            .is_err()
    );
    assert_eq!(second.asked().len(), 0);
}

#[tokio::test]
async fn no_question_carries_what_old_forwarders_refuse() {
    let dns = NameService::start().await;
    dns.set(HOME, A, Says::OverTcp(ips(&["192.0.2.1"])));
    dns.set(HOME, AAAA, Says::Nothing);
    let found = resolver(&[&dns])
        .all_addresses(&host(HOME), Family::Any)
        .await
        .unwrap();
    assert_eq!(found.addresses, ips(&["192.0.2.1"]));
    let asked = dns.asked();
    assert!(asked.iter().all(|(_, opt)| *opt == HadOpt::No), "{asked:?}");
}

#[tokio::test]
async fn a_name_with_an_underscore_is_asked_for() {
    let dns = NameService::start().await;
    for name in ["my_home.example", "_home.example", "home_.my_net.example"] {
        dns.set(name, A, says(&["192.0.2.1"]));
        let found = resolver(&[&dns])
            .addresses(&host(name), Family::Any, Freshness::Cached)
            .await;
        assert_eq!(found.unwrap().addresses, ips(&["192.0.2.1"]), "{name}");
    }
}

#[tokio::test]
async fn families_take_turns_and_no_host_has_too_many_addresses() {
    let dns = NameService::start().await;
    let v4: Vec<String> = (0..100).map(|last| format!("192.0.2.{last}")).collect();
    let v4: Vec<&str> = v4.iter().map(String::as_str).collect();
    dns.set(HOME, A, Says::OverTcp(ips(&v4)));
    dns.set(HOME, AAAA, says(&["2001:db8::1", "2001:db8::2"]));
    let found = resolver(&[&dns])
        .all_addresses(&host(HOME), Family::Any)
        .await
        .unwrap();
    let first = [
        "192.0.2.0",
        "2001:db8::1",
        "192.0.2.1",
        "2001:db8::2",
        "192.0.2.2",
    ];
    assert_eq!(found.addresses[..5], ips(&first));
    assert!((31..=64).contains(&found.addresses.len()));
}

#[tokio::test]
async fn no_address_comes_twice() {
    let dns = NameService::start().await;
    dns.set(HOME, A, says(&["192.0.2.1", "192.0.2.1", "192.0.2.2"]));
    dns.set(HOME, AAAA, says(&["::ffff:192.0.2.1", "2001:db8::1"]));
    let found = resolver(&[&dns])
        .all_addresses(&host(HOME), Family::Any)
        .await
        .unwrap();
    assert_eq!(
        found.addresses,
        ips(&["192.0.2.1", "2001:db8::1", "192.0.2.2"])
    );
}

#[tokio::test]
async fn each_failure_is_told_in_words_of_its_own() {
    let code = Says::Code;
    for (a, aaaa, words) in [
        (
            code(ResponseCode::NXDomain),
            code(ResponseCode::NXDomain),
            "the name home.example does not exist (NXDOMAIN)",
        ),
        (
            Says::Nothing,
            Says::Nothing,
            "the name home.example exists, but has no address",
        ),
        (
            Says::Nothing,
            code(ResponseCode::ServFail),
            "cannot find it out (SERVFAIL)",
        ),
        (
            code(ResponseCode::Refused),
            code(ResponseCode::Refused),
            "refuses to answer (REFUSED)",
        ),
        (
            code(ResponseCode::NXDomain),
            code(ResponseCode::ServFail),
            "does not exist",
        ),
    ] {
        let dns = NameService::start().await;
        dns.set(HOME, A, a);
        dns.set(HOME, AAAA, aaaa);
        let error = resolver(&[&dns])
            .addresses(&host(HOME), Family::Any, Freshness::Cached)
            .await;
        let told = error.unwrap_err().to_string();
        assert!(told.contains(words) && told.contains(HOME), "{told}");
        assert!(!told.contains("Query") && !told.contains('{'), "{told}");
        if told.contains("cannot be looked up") {
            assert!(told.contains(&dns.address.to_string()), "{told}");
        }
    }
}

#[tokio::test]
async fn a_name_server_that_is_not_there_is_named() {
    let gone = NameService::start().await.address;
    // Nobody listens at the discard port of this address.
    let nobody = SocketAddr::new(gone.ip(), 9);
    let resolver = Resolver::new(&[nobody], TTL).unwrap();
    let error = resolver
        .addresses(&host(HOME), Family::Any, Freshness::Cached)
        .await
        .unwrap_err();
    let told = error.to_string();
    assert!(told.contains("the name server 127.0.0.1:9"), "{told}");
}
