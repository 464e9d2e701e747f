//! Names that an authority may sign for (`nameConstraints`).

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree};

use super::chain::Refusal;
use super::names;

/// Fails with a clause where one of `below` has a name that `authority` may not sign for, or one of a kind that is limited
/// in a way that is not understood here.
pub(super) fn ensure(
    authority: &X509Certificate<'_>,
    below: &[&X509Certificate<'_>],
) -> Result<(), Refusal> {
    let found = authority.name_constraints();
    let found = found.map_err(|error| Refusal::new(format!("it limits names twice ({error})")))?;
    let Some(limits) = found.map(|found| found.value) else {
        return Ok(());
    };
    let permitted = limits.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = limits.excluded_subtrees.as_deref().unwrap_or_default();
    for certificate in below {
        let mut named: Vec<GeneralName<'_>> = names::alternatives(certificate)?.to_vec();
        if certificate.subject().iter().next().is_some() {
            named.push(GeneralName::DirectoryName(certificate.subject().clone()));
        }
        // A common name that may be taken for a host's is one.
        let has_host = named
            .iter()
            .any(|name| matches!(name, GeneralName::DNSName(_)));
        if !has_host && let Some(common) = names::common_name(certificate) {
            let is_host = !common.contains(' ') && common.contains('.');
            if is_host && common.parse::<std::net::IpAddr>().is_err() {
                named.push(GeneralName::DNSName(common));
            }
        }
        for name in &named {
            allowed(name, permitted, excluded)?;
        }
    }
    Ok(())
}

fn allowed(
    name: &GeneralName<'_>,
    permitted: &[GeneralSubtree<'_>],
    excluded: &[GeneralSubtree<'_>],
) -> Result<(), Refusal> {
    let of_kind = |trees: &[GeneralSubtree<'_>]| -> Result<(bool, bool), Refusal> {
        let mut any = false;
        for tree in trees {
            if std::mem::discriminant(&tree.base) == std::mem::discriminant(name) {
                any = true;
                if within(name, &tree.base)? {
                    return Ok((true, true));
                }
            }
        }
        Ok((any, false))
    };
    let (_, is_excluded) = of_kind(excluded)?;
    let (is_limited, is_permitted) = of_kind(permitted)?;
    if is_excluded || (is_limited && !is_permitted) {
        return Err(Refusal::new(format!("it may not sign for {name}")));
    }
    Ok(())
}

fn within(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Result<bool, Refusal> {
    match (name, base) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => {
            let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
            let before = name.strip_suffix(&base);
            Ok(before.is_some_and(|before| {
                before.is_empty()
                    || base.is_empty()
                    || base.starts_with('.')
                    || before.ends_with('.')
            }))
        }
        (GeneralName::IPAddress(address), GeneralName::IPAddress(base)) => {
            let (network, mask) = base.split_at(base.len() / 2);
            let is_inside = address.len() == network.len()
                && address
                    .iter()
                    .zip(network)
                    .zip(mask)
                    .all(|((a, n), m)| a & m == n & m);
            Ok(is_inside)
        }
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            let parts = |name: &x509_parser::x509::X509Name<'_>| -> Vec<String> {
                let parts = name.iter_attributes().map(|part| {
                    format!(
                        "{}={:?}",
                        part.attr_type(),
                        part.as_slice().to_ascii_lowercase()
                    )
                });
                parts.collect()
            };
            Ok(parts(name).starts_with(&parts(base)))
        }
        _ => Err(Refusal::new(format!(
            "it limits {name} in a way that is not known here"
        ))),
    }
}
