//! Users: added, changed, removed; and the audit as a list. Except for one's own password this is
//! for administrators, and one of them always stays: the last one can never be disabled, demoted or
//! removed.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::login::{check_password, user_name};
use crate::domain::order::values::Shop;
use crate::domain::order_filter::ShopFilter;
use crate::domain::permission::{Permission, RoleGrant};
use crate::ports::audit::{Act, AuditFilter, AuditRow};
use crate::ports::people::{User, UserChange, UserChanged};

use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

/// Languages that pages exist in.
pub const LANGUAGES: [&str; 2] = ["en", "de"];

/// Characters that are not confused with one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a generated password; each has 5 bits.
const GENERATED: usize = 20;

/// A user to be added.
#[derive(Clone)]
pub struct NewUser {
    /// The login name.
    pub name: String,
    /// The first password.
    pub password: String,
    /// What they may do; at least one role.
    pub roles: Vec<RoleGrant>,
    /// The language of their pages; `None`: the browser's.
    pub language: Option<String>,
}

impl Ops {
    /// A password of 100 random bits, in groups.
    pub fn new_password(&self) -> String {
        let bytes = self.clock.secret_bytes();
        let letters = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)]));
        let mut password = String::new();
        for (at, letter) in letters.take(GENERATED).enumerate() {
            if at > 0 && at % 5 == 0 {
                password.push('-');
            }
            password.push(letter);
        }
        password
    }

    /// Adds a user.
    pub async fn add_user(&self, new: NewUser, act: &Act) -> Result<User, Refusal> {
        authorize(act, Permission::Admin, None)?;
        let name = user_name(&new.name).map_err(Refusal::Unacceptable)?;
        check_roles(&new.roles)?;
        check_language(new.language.as_deref())?;
        let taken = || Refusal::Exists { what: "user", name: name.clone() };
        if self.store.user(&name).await?.is_some() {
            return Err(taken());
        }
        let hash = self.hashed(&name, &new.password).await?;
        let user = User {
            name: name.clone(),
            roles: new.roles,
            language: new.language,
            created_at: act.now,
            password_changed_at: act.now,
            disabled_at: None,
        };
        if self.store.add_user(&user, &hash, act).await? { Ok(user) } else { Err(taken()) }
    }

    pub async fn users(&self, person: &Principal) -> Result<Vec<User>, Refusal> {
        person.authorize(Permission::Admin, None)?;
        Ok(self.store.list_users().await?)
    }

    /// Sets a user's password and ends their sessions.
    pub async fn set_password(&self, name: &str, password: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        let name = self.known(name).await?;
        let hash = self.hashed(&name, password).await?;
        self.change(&name, UserChange::Password { hash }, act).await
    }

    /// Gives a user other roles, effective at once, also for users who are logged in.
    pub async fn set_roles(
        &self,
        name: &str,
        roles: Vec<RoleGrant>,
        act: &Act,
    ) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        check_roles(&roles)?;
        let name = self.known(name).await?;
        self.change(&name, UserChange::Roles(roles), act).await
    }

    /// Chooses the language of one's own pages.
    pub async fn set_language(
        &self,
        user: &str,
        language: Option<&str>,
        act: &Act,
    ) -> Result<(), Refusal> {
        check_language(language)?;
        self.change(user, UserChange::Language(language.map(str::to_owned)), act).await
    }

    /// Disables a user and ends their sessions.
    pub async fn disable_user(&self, name: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        let name = self.known(name).await?;
        self.change(&name, UserChange::Disable, act).await
    }

    /// Enables a user.
    pub async fn enable_user(&self, name: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        let name = self.known(name).await?;
        self.change(&name, UserChange::Enable, act).await
    }

    /// Removes a user and ends their sessions; their actions stay in the audit.
    pub async fn remove_user(&self, name: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        let name = self.known(name).await?;
        self.change(&name, UserChange::Remove, act).await
    }

    /// The audit, newest first; rows that belong to no shop only for users who may see every shop.
    pub async fn audit(
        &self,
        person: &Principal,
        filter: AuditFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, Refusal> {
        let shops = person.readable();
        if shops == ShopFilter::Only(Vec::new()) {
            person.authorize(Permission::Read, None)?;
        }
        let filter = AuditFilter { shops, ..filter };
        Ok(self.store.list_audit(&filter, after, limit).await?)
    }

    async fn known(&self, name: &str) -> Result<String, Refusal> {
        let missing = || Refusal::not_found("user", name);
        let name = user_name(name).map_err(|_| missing())?;
        if self.store.user(&name).await?.is_some() { Ok(name) } else { Err(missing()) }
    }

    pub(super) async fn change(
        &self,
        name: &str,
        change: UserChange,
        act: &Act,
    ) -> Result<(), Refusal> {
        match self.store.change_user(name, change, act).await? {
            UserChanged::Done => Ok(()),
            UserChanged::Missing => Err(Refusal::not_found("user", name)),
            UserChanged::LastAdministrator => Err(Refusal::LastAdministrator(name.to_owned())),
        }
    }

    pub(super) async fn hashed(&self, name: &str, password: &str) -> Result<String, Refusal> {
        check_password(name, password).map_err(Refusal::Unacceptable)?;
        let mut salt = [0; 16];
        salt.copy_from_slice(&self.clock.secret_bytes()[..16]);
        self.login.passwords.hash(password, salt).await.map_err(Refusal::from)
    }
}

fn check_roles(roles: &[RoleGrant]) -> Result<(), Refusal> {
    if roles.is_empty() {
        return Err(Refusal::Unacceptable("a user needs at least one role".to_owned()));
    }
    for shop in roles.iter().filter_map(|grant| grant.shop.as_ref()) {
        Shop::try_from(shop.clone())
            .map_err(|error| Refusal::Unacceptable(format!("shop `{shop}`: {error}")))?;
    }
    Ok(())
}

fn check_language(language: Option<&str>) -> Result<(), Refusal> {
    match language {
        Some(other) if !LANGUAGES.contains(&other) => {
            let known = LANGUAGES.join(", ");
            Err(Refusal::Unacceptable(format!("language `{other}` is none of {known}")))
        }
        _ => Ok(()),
    }
}
