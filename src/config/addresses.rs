//! Addresses of servers with their passwords: lists of them, and what may be shown.

use secrecy::SecretString;

/// Schemes whose addresses may name several servers.
const OF_SEVERAL: [&str; 4] = ["amqp", "amqps", "postgres", "postgresql"];

/// The addresses of a text: `amqp://user:password@a,b/vhost` names two servers, and so do whole addresses with a
/// comma between them. Each server gets an address of its own.
pub(super) fn servers(text: &str) -> Result<Vec<SecretString>, String> {
    let mut servers = Vec::new();
    for address in split(text) {
        let Some((scheme, rest)) = several(address) else {
            servers.push(SecretString::from(address));
            continue;
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(at);
        let path = rest.split('?').next().unwrap_or_default();
        if path.contains('@') || path.contains("://") {
            return Err(format!(
                "there is `@` or `://` after the first `/` of an address: write several servers as \
                 {scheme}://user:password@host1,host2/name, and `@`, `/`, `?` and `:` of a name or \
                 password as %40, %2F, %3F and %3A"
            ));
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        if hosts.split(',').any(|host| host.trim().is_empty()) && hosts.contains(',') {
            return Err("a host between two commas is empty".to_owned());
        }
        let rest = match scheme.starts_with("postgres") {
            true => without_target(rest)?,
            false => rest.to_owned(),
        };
        for host in hosts.split(',') {
            servers.push(SecretString::from(format!("{scheme}://{login}{}{rest}", host.trim())));
        }
    }
    Ok(servers)
}

/// `target_session_attrs` says what the ledger needs anyway: a server that can write.
fn without_target(rest: &str) -> Result<String, String> {
    let Some((path, parameters)) = rest.split_once('?') else { return Ok(rest.to_owned()) };
    let mut kept = Vec::new();
    for parameter in parameters.split('&') {
        match parameter.strip_prefix("target_session_attrs=") {
            None => kept.push(parameter),
            Some("read-write" | "primary") => {}
            Some(_) => {
                return Err("target_session_attrs: expected read-write: the ledger has to be \
                            written"
                    .to_owned());
            }
        }
    }
    Ok(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

/// What is shown of a secret: addresses without their passwords, or only that it is set.
pub(super) fn mask(secret: &str) -> String {
    let masked: Vec<String> = split(secret).into_iter().map(mask_one).collect();
    masked.join(", ")
}

fn mask_one(secret: &str) -> String {
    let is_scheme =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let address = secret.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
    let Some((scheme, rest)) = address else {
        return if secret.is_empty() { String::new() } else { "***".to_owned() };
    };
    // A password can also stand among the parameters.
    let (rest, parameters) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?***"),
        None => (rest, ""),
    };
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}:***@{place}{parameters}")
        }
        None => format!("{scheme}://{rest}{parameters}"),
    }
}

/// Cuts at each comma that is followed by the scheme of another address.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (comma, _) in text.match_indices(',') {
        if several(text[comma + 1..].trim_start()).is_some() {
            parts.push(text[begin..comma].trim());
            begin = comma + 1;
        }
    }
    parts.push(text[begin..].trim());
    parts
}

fn several(address: &str) -> Option<(&str, &str)> {
    address.split_once("://").filter(|(scheme, _)| OF_SEVERAL.contains(scheme))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        let servers = servers(text).expect("addresses");
        servers.iter().map(|one| one.expose_secret().to_owned()).collect()
    }

    #[test]
    fn one_address_names_several_servers_in_either_way() {
        let two = ["amqp://u:p@a:5672/v?heartbeat=5", "amqp://u:p@b:5673/v?heartbeat=5"];
        assert_eq!(read("amqp://u:p@a:5672,b:5673/v?heartbeat=5"), two);
        assert_eq!(read(&two.join(", ")), two);
        assert_eq!(
            read("postgres://u:p,q@[::1]:5,b/db"),
            ["postgres://u:p,q@[::1]:5/db", "postgres://u:p,q@b/db"]
        );
        assert_eq!(read("amqp://a,amqps://u:p,w@b"), ["amqp://a", "amqps://u:p,w@b"]);
        assert_eq!(read("sqlite:///a,b.db"), ["sqlite:///a,b.db"]);
        assert!(servers("amqp://u:p@a,,b/v").is_err());
        let attributes = "postgres://a,b/db?target_session_attrs=read-write&sslmode=require";
        assert_eq!(
            read(attributes),
            ["postgres://a/db?sslmode=require", "postgres://b/db?sslmode=require"]
        );
        assert!(servers("postgres://a,b/db?target_session_attrs=standby").is_err());
    }

    #[test]
    fn what_could_be_a_password_in_a_wrong_place_is_refused_and_never_shown() {
        for text in [
            "amqp://u:one@a;amqp://u:two@b",
            "amqp://u:one/two@a/v",
            "amqp://a/x amqp://u:two@b",
            "amqp://u:one@a/v@two",
        ] {
            if let Ok(servers) = servers(text) {
                // The driver refuses the rest as no address.
                assert_eq!(servers.len(), 1, "{text}");
                assert!(!servers[0].expose_secret().contains("/x"), "{text}");
            }
        }
        for text in [
            "amqp://u:one@a,amqp://u:two@b",
            "amqp://u:one@a;amqp://u:two@b",
            "amqp://u:one@two@b?x=one?y=two",
        ] {
            let shown = mask(text);
            assert!(!shown.contains("one") && !shown.contains("two"), "{shown}");
        }
        assert_eq!(mask("amqp://u:one@a/v,amqp://u:two@b/v"), "amqp://u:***@a/v, amqp://u:***@b/v");
        assert_eq!(mask("amqp://u:one@a,b/v"), "amqp://u:***@a,b/v");
    }
}
