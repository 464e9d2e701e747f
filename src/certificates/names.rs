//! Whether a certificate is one of the host that was asked for.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::Rules;
use super::chain::Refusal;

/// Fails with a clause that says whose it is.
pub(super) fn ensure(
    certificate: &X509Certificate<'_>,
    host: &str,
    rules: Rules,
) -> Result<(), Refusal> {
    let alternatives = alternatives(certificate)?;
    let address = host.parse::<IpAddr>().ok();
    let bytes = match address {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    };
    let is_of_host = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            // libpq compares an address with names, too.
            return (address.is_none() || rules == Rules::Libpq) && is_name_of(name, host, rules);
        }
        matches!(name, GeneralName::IPAddress(found) if address.is_some() && *found == bytes)
    };
    if alternatives.iter().any(is_of_host) {
        return Ok(());
    }
    let names_such = alternatives.iter().any(|name| {
        if address.is_some() {
            matches!(name, GeneralName::IPAddress(_))
        } else {
            matches!(name, GeneralName::DNSName(_))
        }
    });
    let common = common_name(certificate);
    let common = common.filter(|_| rules == Rules::Libpq && !names_such);
    if common.is_some_and(|name| is_name_of(name, host, rules)) {
        return Ok(());
    }
    let mut whose = Vec::new();
    for name in alternatives {
        if let GeneralName::DNSName(name) = name {
            whose.push((*name).to_owned());
        } else if let GeneralName::IPAddress(bytes) = name {
            whose.push(address_of(bytes));
        }
    }
    whose.extend(common.map(str::to_owned));
    let whose = crate::printable::line(&whose.join(", ")).into_owned();
    Err(Refusal::new(match whose.as_str() {
        "" => format!("it is not valid for name {host:?}: it names no host"),
        _ => format!("it is not valid for name {host:?}, only for {whose}"),
    }))
}

pub(super) fn alternatives<'a>(
    certificate: &'a X509Certificate<'a>,
) -> Result<&'a [GeneralName<'a>], Refusal> {
    let found = certificate.subject_alternative_name();
    let twice = |error| Refusal::new(format!("it has alternative names twice ({error})"));
    let found = found.map_err(twice)?;
    Ok(found.map_or(&[], |found| &found.value.general_names))
}

pub(super) fn common_name<'a>(certificate: &'a X509Certificate<'a>) -> Option<&'a str> {
    let first = certificate.subject().iter_common_name().next();
    first.and_then(|name| name.as_str().ok())
}

fn address_of(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return IpAddr::from(four).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(sixteen) => IpAddr::from(sixteen).to_string(),
        Err(_) => "an address that is none".to_owned(),
    }
}

/// `*.` stands for one label. No name with a zero byte is anybody's.
fn is_name_of(pattern: &str, host: &str, rules: Rules) -> bool {
    let host = match rules {
        Rules::Libpq => host,
        Rules::Go => host.strip_suffix('.').unwrap_or(host),
    };
    if pattern.contains('\0') || host.is_empty() {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = pattern
        .strip_prefix("*.")
        .filter(|domain| !domain.is_empty())
    else {
        return false;
    };
    let Some((label, rest)) = host.split_once('.') else {
        return false;
    };
    !label.is_empty() && rest.eq_ignore_ascii_case(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (pattern, host, expected) in [
            ("db.example", "DB.example", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*.", "db.", false),
            ("*", "db", false),
            ("d*.example", "db.example", false),
            ("db.example\0.evil", "db.example", false),
        ] {
            assert_eq!(
                is_name_of(pattern, host, Rules::Libpq),
                expected,
                "{pattern} {host}"
            );
        }
    }
}
