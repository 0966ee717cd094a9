use super::*;

const WHOLE: &str = r#"hostname  = "mail.example.net"
state_dir = "/var/lib/dd-controller"
[intake]
smtp    = ["0.0.0.0:25"]
lmtp    = ["127.0.0.1:24"]
trusted = ["127.0.0.0/8", "::1/128"]
max_message_bytes = 52428800
max_sessions = 1000
max_sessions_per_client = 100
buffer_bytes = "256M"
stray_cr_lf = "refuse"
tls     = { certificate = "a.pem", key = "a.key" }
[store]
segment_bytes = "64M"
min_free = "1%"
[control]
listen = "0.0.0.0:7443"
socket = "/run/dd-controller/admin.sock"
[web]
listen = "0.0.0.0:8443"
tls    = { certificate = "b.pem", key = "b.key" }
outbound_networks = ["192.0.2.0/27"]
[metrics]
listen = "127.0.0.1:9464"
[notify]
postmaster = "postmaster@example.net"
smarthost  = "smtp.example.net:25"
[site_defaults]
retry_interval = "3m"
lifetime       = "14d"
delay_warning  = "1d"
connections    = 2
[history]
keep = "14d"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("controller.toml")).map_err(|error| error.to_string())
}

#[test]
fn every_key_of_the_contract_is_read() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.intake.buffer_bytes, 256 << 20);
    assert_eq!(config.store.min_free, MinFree::Percent(1));
    assert_eq!(config.socket(), Path::new("/run/dd-controller/admin.sock"));
    assert_eq!(config.outbound_networks().len(), 1);
    assert_eq!(config.notify.smarthost.unwrap().port.get(), 25);
    assert_eq!(config.site_defaults, SiteDefaults::default());
}

#[test]
fn two_keys_are_enough() {
    let config = parse("hostname = \"mail.example.net\"\nstate_dir = \"/s\"\n").unwrap();
    let trusted = config.intake.trusted.iter().map(ToString::to_string);
    assert_eq!(trusted.collect::<Vec<_>>(), ["127.0.0.0/8", "::1/128"]);
    assert!(config.web.is_none() && config.metrics.is_none());
    assert_eq!(config.socket(), Path::new("/s/admin.sock"));
}

#[test]
fn listeners_are_one_address_or_a_list_and_members_are_told_the_origin() {
    let both = WHOLE.replace("\"0.0.0.0:8443\"", "[\"0.0.0.0:8443\", \"[::]:8443\"]");
    let one = both
        .replace("[\"0.0.0.0:25\"]", "\"127.0.0.1:0\"")
        .replace("[\"127.0.0.1:24\"]", "\"127.0.0.1:24\"")
        .replace("[\"127.0.0.0/8\", \"::1/128\"]", "\"192.0.2.0/24\"");
    let intake = parse(&one).unwrap().intake;
    assert_eq!(intake.smtp, ["127.0.0.1:0".parse::<SocketAddr>().unwrap()]);
    assert_eq!(intake.lmtp, ["127.0.0.1:24".parse::<SocketAddr>().unwrap()]);
    assert_eq!(intake.trusted, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
    let config = parse(&both).unwrap();
    assert_eq!(config.web.as_ref().unwrap().listen.get_ref().0.len(), 2);
    let bound = ["0.0.0.0:4433".parse().unwrap()];
    let origin = |config: &Config, bound| config.web_origin(bound).unwrap();
    assert_eq!(origin(&config, &[]), "https://mail.example.net:8443");
    assert_eq!(origin(&config, &bound), "https://mail.example.net:4433");
    let named = "listen = \"0.0.0.0:8443\"\norigin = \"https://Wake.example.net:443/\"";
    let named = WHOLE.replace("listen = \"0.0.0.0:8443\"", named);
    let config = parse(&named).unwrap();
    assert_eq!(origin(&config, &bound), "https://wake.example.net");
}

#[test]
fn space_may_be_told_in_bytes() {
    let text = WHOLE.replace("\"1%\"", "\"2G\"");
    assert_eq!(
        parse(&text).unwrap().store.min_free,
        MinFree::Bytes(2 << 30)
    );
}

#[test]
fn a_mistake_is_named_with_file_line_and_what_is_expected() {
    for (from, to, line, says) in [
        (
            "hostname ",
            "hostnam ",
            1,
            "unknown field `hostnam`, expected one of",
        ),
        ("mail.example.net", "not a name", 1, "expected a DNS name"),
        (
            "hostname  = \"mail.example.net\"\n",
            "",
            1,
            "missing field `hostname`",
        ),
        ("0.0.0.0:25", "0.0.0.0", 4, "expected an address and a port"),
        ("smtp    =", "smtq    =", 4, "unknown field `smtq`"),
        ("127.0.0.0/8", "127.0.0.0/40", 6, "network"),
        ("= 52428800", "= 10", 7, "expected a size between 64K and"),
        (
            "max_sessions = 1000",
            "max_sessions = 0",
            8,
            "expected a number between 1 and",
        ),
        (
            "client = 100",
            "client = -1",
            9,
            "expected a number between 1 and",
        ),
        ("256M", "256MB", 10, "is no size"),
        ("256M", "1K", 10, "expected a size between 1M and"),
        (
            "\"refuse\"",
            "\"keep\"",
            11,
            "expected \"refuse\" or \"space\"",
        ),
        (
            "key = \"a.key\"",
            "kay = \"a.key\"",
            12,
            "unknown field `kay`",
        ),
        ("64M", "1", 14, "expected a size between 1M and"),
        ("1%", "100%", 15, "expected a share such as \"1%\""),
        ("1%", "x", 15, "expected a share such as \"1%\""),
        (
            "\"0.0.0.0:7443\"",
            "\"nowhere\"",
            17,
            "`nowhere`: expected an address and a port",
        ),
        (
            "\"0.0.0.0:7443\"",
            "[\"[::]:7443\", \"x\"]",
            17,
            "`x`: expected an address and a port",
        ),
        (
            "\"0.0.0.0:7443\"",
            "[]",
            17,
            "expected at least one address",
        ),
        (
            "\"0.0.0.0:8443\"",
            "\"0.0.0.0:8443\"\norigin = \"mail.example.net\"",
            21,
            "expected a URL such as https://mail.example.net",
        ),
        (
            "\"0.0.0.0:8443\"",
            "\"0.0.0.0:8443\"\nproxy_protocol = [\"lb\"]",
            21,
            "`lb`: expected a network",
        ),
        ("[web]", "[wob]", 19, "unknown field `wob`"),
        (
            "tls    = { certificate = \"b.pem\", key = \"b.key\" }\n",
            "",
            20,
            "not a loopback address",
        ),
        ("192.0.2.0/27", "192.0.2", 22, "network"),
        (
            "127.0.0.1:9464",
            "9464",
            24,
            "expected an address and a port",
        ),
        (
            "postmaster@",
            "postmaster",
            26,
            "expected local-part@domain",
        ),
        (
            "smtp.example.net:25",
            "smtp.example.net",
            27,
            "expected HOST:PORT",
        ),
        ("\"3m\"", "\"3 minutes\"", 29, "is no duration"),
        ("\"3m\"", "3", 29, "expected"),
        ("= 2\n", "= 21\n", 32, "expected a number between 1 and 20"),
        (
            "keep = \"14d\"",
            "keep = \"1m\"",
            34,
            "expected a time between 1h and 366d",
        ),
        ("[store]", "[store", 13, "expected"),
    ] {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from}");
        let error = parse(&text).unwrap_err();
        let begin = format!("controller.toml:{line}: ");
        assert!(error.starts_with(&begin) && error.contains(says), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
