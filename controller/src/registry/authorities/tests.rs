use super::super::made_by_tools::{self, AUTHORITIES};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

fn certificate(is_ca: IsCa) -> Bytes {
    let mut params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
    params.is_ca = is_ca;
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec().into()
}

#[test]
fn only_ca_certificates_are_an_authority() {
    let ca = certificate(IsCa::Ca(BasicConstraints::Unconstrained));
    let leaf = certificate(IsCa::NoCa);
    let of_server = AuthorityError::OwnOfServer {
        number: 2,
        subject: "CN=rcgen self signed cert".to_owned(),
    };
    let mut longer = ca.to_vec();
    longer.push(0);
    for (certificates, expected) in [
        (vec![ca.clone()], Ok(())),
        (vec![ca.clone(); 2], Ok(())),
        (vec![], Err(AuthorityError::Count)),
        (vec![ca.clone(); 11], Err(AuthorityError::Count)),
        (vec![ca, leaf], Err(of_server)),
        (vec![longer.into()], Err(AuthorityError::Unreadable(1))),
        (
            vec![Bytes::from_static(b"-----BEGIN")],
            Err(AuthorityError::Unreadable(1)),
        ),
    ] {
        assert_eq!(check(&certificates), expected);
    }
}

#[test]
fn an_authority_that_no_agent_can_use_is_refused_with_a_word_for_what_it_lacks() {
    for (name, word) in AUTHORITIES {
        let certificate = made_by_tools::certificate(name);
        match check_usable(&[certificate]) {
            Ok(()) => assert_eq!(*word, "", "{name}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!word.is_empty() && said.contains(word), "{name}: {said}");
            }
        }
    }
}

#[test]
fn limits_of_directory_names_are_refused_at_the_import_and_an_alarm_where_they_are() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let everybody = rcgen::DistinguishedName::new();
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DirectoryName(everybody)],
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate().unwrap();
    let made: Bytes = params.self_signed(&key).unwrap().der().to_vec().into();
    let refused = check_usable(std::slice::from_ref(&made))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("dirName"), "{refused}");
    let alarms = authority(made, Vec::new()).unusable();
    assert!(alarms[0].contains("directory names"), "{alarms:?}");
}

fn authority(certificate: Bytes, lists: Vec<Bytes>) -> Authority {
    Authority {
        name: "members".parse().unwrap(),
        version: 1,
        certificates: vec![certificate],
        revocation_lists: lists,
        origin: Origin::Imported,
    }
}

#[test]
fn what_is_here_already_and_cannot_be_used_is_an_alarm() {
    let now = "2026-12-01T00:00:00Z".parse().unwrap();
    let ca = made_by_tools::certificate("ca");
    let list = |name| vec![made_by_tools::list(name)];
    let alarms = |it: &Authority| it.alarms(now, Usage::OfSites).join("\n");
    assert_eq!(alarms(&authority(ca.clone(), list("list-good"))), "");
    assert!(alarms(&authority(ca, list("list-v1"))).contains("version 1"));
    let brainpool = made_by_tools::certificate("authority-brainpool");
    assert!(alarms(&authority(brainpool, Vec::new())).contains("brainpoolP256r1"));
    // RFC 5280 §4.1.2.5: no end is not an end in 1970.
    let endless = made_by_tools::certificate("authority-endless");
    assert_eq!(alarms(&authority(endless, Vec::new())), "");
}

#[test]
fn that_one_ends_soon_matters_only_where_a_site_relies_on_it() {
    let ca = authority(made_by_tools::certificate("ca"), Vec::new());
    let late = "2300-01-01T00:00:00Z".parse().unwrap();
    let alarms = ca.alarms(late, Usage::OfSites);
    assert!(alarms[0].contains("is valid until"), "{alarms:?}");
    assert_eq!(ca.alarms(late, Usage::None), [""; 0]);
    // Only our own can be rolled over here.
    assert!(alarms[0].contains("ca import members"), "{alarms:?}");
    let origin = Origin::Own { permit: Vec::new() };
    let alarms = Authority { origin, ..ca }.alarms(late, Usage::OfSites);
    assert!(alarms[0].contains("ca rollover members"), "{alarms:?}");
}

#[test]
fn one_that_has_ended_is_refused_and_one_without_end_is_not() {
    let endless = [made_by_tools::certificate("authority-endless")];
    let ca = [made_by_tools::certificate("ca")];
    let late = "2300-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(check_not_expired(&endless, late), Ok(()));
    assert!(check_not_expired(&ca, late).is_err());
}
