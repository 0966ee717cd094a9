//! What a table says of the proof.

use dd_proto::excerpt;
use dd_proto::pb;

use super::{Many, SiteTable};

/// A proof is said whole, or not at all.
pub(super) fn proof(table: &SiteTable) -> Result<Option<pb::Proof>, String> {
    use pb::proof::{Certificate, Fingerprint, Kind, Port, Public, StaticIp};
    let given = [
        ("address", table.address.is_some()),
        ("authority", table.authority.is_some()),
        ("cert-name", table.cert_name.is_some()),
        ("fingerprint", table.fingerprint.is_some()),
    ];
    let Some(word) = table.proof.as_ref().map(|word| word.0.as_str()) else {
        return match given.iter().any(|(_, is_given)| *is_given) {
            true => Err("what belongs to a proof stands without `proof`: add it".to_owned()),
            false => Ok(None),
        };
    };
    let only = |own: &[&str]| {
        let stranger = given
            .iter()
            .find(|(key, is_given)| *is_given && !own.contains(key));
        stranger.map_or(Ok(()), |(key, _)| {
            Err(format!(
                "`{key}` does not go with proof = \"{word}\": leave it out"
            ))
        })
    };
    let name = || table.cert_name.as_ref().map(|it| it.0.to_string());
    let certificate = || Certificate {
        authority: table
            .authority
            .as_ref()
            .map(|it| it.0.to_string())
            .unwrap_or_default(),
        name: name().unwrap_or_default(),
    };
    let kind = match word {
        "static-ip" => {
            only(&["address", "authority", "cert-name"])?;
            let asks = table.authority.is_some() || table.cert_name.is_some();
            Kind::StaticIp(StaticIp {
                addresses: listed(table.address.as_ref()),
                certificate: asks.then(certificate),
            })
        }
        "certificate" => {
            only(&["authority", "cert-name"])?;
            Kind::Certificate(certificate())
        }
        "fingerprint" => {
            only(&["fingerprint"])?;
            Kind::Fingerprint(Fingerprint {
                sha256: listed(table.fingerprint.as_ref()),
            })
        }
        "public" => {
            only(&["cert-name"])?;
            Kind::Public(Public {
                name: name().unwrap_or_default(),
            })
        }
        "port" => {
            only(&[])?;
            Kind::Port(Port {})
        }
        other => {
            return Err(format!(
                "`{}` is no proof: expected \"certificate\", \"public\", \"fingerprint\", \"static-ip\" or \"port\"",
                excerpt::of(other)
            ));
        }
    };
    Ok(Some(pb::Proof { kind: Some(kind) }))
}

fn listed<T: ToString>(many: Option<&Many<T>>) -> Vec<String> {
    let all = many.map(|it| it.0.as_slice()).unwrap_or_default();
    all.iter().map(ToString::to_string).collect()
}
