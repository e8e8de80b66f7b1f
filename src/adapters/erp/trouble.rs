//! Texts by which an ERP says that it is in trouble itself, whatever status and wrapping it gives them.
//!
//! Frameworks wrap the errors of their database, their pool and their cache as if an order had been
//! refused. Phrases, not words: an order about a "connection set" is no trouble.

/// Begins and parts of such texts, in small letters.
const PHRASES: [&str; 52] = [
    // Databases
    "could not serialize access",
    "deadlock detected",
    "deadlock found",
    "lock wait timeout",
    "lock timeout",
    "could not obtain lock",
    "canceling statement due to",
    "database is locked",
    "database is shutting down",
    "database system is",
    "database is not accepting",
    "database is unavailable",
    "database unavailable",
    "cannot connect to database",
    "could not connect to server",
    "connection already closed",
    "connection is closed",
    "connection has been closed",
    "connection was closed",
    "connection not open",
    "connection to server",
    "server closed the connection",
    "ssl connection has been closed",
    "terminating connection",
    "consuming input failed",
    "mysql server has gone away",
    "lost connection to",
    "too many connections",
    "too many clients",
    "remaining connection slots",
    "connection pool is full",
    "connection pool exhausted",
    "timeout waiting for connection",
    "unable to acquire jdbc connection",
    "sqlstate[hy000] [2002]",
    "sqlstate[08",
    "sqlstate[40",
    "transactionrollback",
    "current transaction is aborted",
    "cursor already closed",
    // Networks and processes
    "connection refused",
    "connection reset",
    "connection timed out",
    "name or service not known",
    "no route to host",
    "out of memory",
    "no space left on device",
    // The ERP as a whole
    "service unavailable",
    "temporarily unavailable",
    "under maintenance",
    "maintenance mode",
    "too many requests",
];

/// Whether `text` speaks of the ERP's own trouble.
pub fn is_trouble(text: &str) -> bool {
    let text = text.to_lowercase();
    PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// By which an ERP says that it has the order, in the languages of its users.
const EXISTS: [&str; 16] = [
    "already exist",
    "exists already",
    "already in",
    "already been",
    "already registered",
    "already processed",
    "duplicate",
    "must be unique",
    "unique constraint",
    "not unique",
    "bereits vorhanden",
    "existiert bereits",
    "bereits angelegt",
    "existe déjà",
    "ya existe",
    "esiste già",
];

/// Whether a refusal may mean that the ERP has the order.
pub fn may_exist_already(text: &str) -> bool {
    let text = text.to_lowercase();
    EXISTS.iter().any(|phrase| text.contains(phrase))
}

/// What is wrong with us, and not with an order.
const ACCESS: [&str; 19] = [
    "token",
    "api key",
    "apikey",
    "api-key",
    "access key",
    "subscription key",
    "credential",
    "log in",
    "logged in",
    "login",
    "sign in",
    "signed in",
    "password",
    "authenticat",
    "unauthorized",
    "unauthorised",
    "certificate",
    "ip address",
    "csrf",
];

/// Whether a 403 speaks of our access data.
pub fn means_us(text: &str) -> bool {
    let text = text.to_lowercase();
    ACCESS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_from_a_refusal() {
        for text in [
            "connection already closed",
            "could not serialize access due to concurrent update",
            "The Connection Pool Is Full",
            "SQLSTATE[HY000] [2002] Connection refused",
            "FATAL:  the database system is starting up",
            "consuming input failed: terminating connection due to administrator command",
        ] {
            assert!(is_trouble(text), "{text}");
        }
        for text in
            ["customer 17 is blocked", "Connection set SKU-9 is unknown", "maintenance fee missing"]
        {
            assert!(!is_trouble(text), "{text}");
        }
    }
}
