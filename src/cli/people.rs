//! `users …`, `tokens …`: access.

use crate::cli::flags::{Change, Format, Output};
use crate::domain::permission::{Permission, Role, RoleGrant, roles_text};
use crate::ops::people::{LANGUAGES, NewUser};
use crate::ops::tokens::{NewToken, SCOPES};
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use std::io::{BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail};

use crate::cli::change::{act, confirm, operator};
use crate::cli::exit::Exit;
use crate::cli::output::{print, shown_time};
use crate::domain::login::{MAX_PASSWORD, check_password};
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::people::{ApiToken, User};
use crate::views::csv::Column;
use crate::views::people::{TokenView, UserView};

/// `users …`
pub async fn users(ops: &Ops, command: Users, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Users::List(output) => {
            let change = Change::default();
            let users = ops.users(&operator(&change)).await?;
            list_users(&users, output.output, out)?;
        }
        Users::Add { name, roles, language, password, change } => {
            let act = act(ops, &change);
            if change.dry_run {
                writeln!(out, "would add {name}: {}", roles_text(&granted(&roles)))?;
                return Ok(Exit::Done);
            }
            let (password, made) = obtain(ops, &name, &password)?;
            let new = NewUser { name, password, roles: granted(&roles), language };
            let shown = made.then(|| new.password.clone());
            let user = ops.add_user(new, &act).await?;
            writeln!(out, "added {}: {}", user.name, roles_text(&user.roles))?;
            show_once(shown.as_deref(), out)?;
        }
        Users::SetPassword { name, password, change } => {
            let act = act(ops, &change);
            if change.dry_run {
                writeln!(out, "would set the password of {name} and end all sessions")?;
                return Ok(Exit::Done);
            }
            let (password, made) = obtain(ops, &name, &password)?;
            ops.set_password(&name, &password, &act).await?;
            writeln!(out, "password set; sessions of {name} are ended")?;
            show_once(made.then_some(password.as_str()), out)?;
        }
        Users::SetRoles { name, roles, change } => {
            let (act, roles) = (act(ops, &change), granted(&roles));
            if change.dry_run {
                writeln!(out, "would give {name} the roles {}", roles_text(&roles))?;
                return Ok(Exit::Done);
            }
            let told = roles_text(&roles);
            ops.set_roles(&name, roles, &act).await?;
            writeln!(out, "{name} is now {told}")?;
        }
        Users::EndSessions { name, change } => {
            if change.dry_run {
                writeln!(out, "would end all sessions of {name}")?;
                return Ok(Exit::Done);
            }
            let ended = ops.end_sessions(&name, &act(ops, &change)).await?;
            writeln!(out, "{ended} sessions of {name} ended")?;
        }
        Users::Disable { name, change } => {
            change_one(ops, &name, Alter::Disable, &change, out).await?;
        }
        Users::Enable { name, change } => {
            change_one(ops, &name, Alter::Enable, &change, out).await?;
        }
        Users::Remove { name, change } => {
            change_one(ops, &name, Alter::Remove, &change, out).await?;
        }
    }
    Ok(Exit::Done)
}

#[derive(Clone, Copy)]
enum Alter {
    Disable,
    Enable,
    Remove,
}

async fn change_one(
    ops: &Ops,
    name: &str,
    alter: Alter,
    change: &Change,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (verb, done) = match alter {
        Alter::Disable => ("disable", "disabled; all sessions are ended"),
        Alter::Enable => ("enable", "enabled"),
        Alter::Remove => ("remove", "removed; all sessions are ended"),
    };
    if change.dry_run {
        writeln!(out, "would {verb} {name}")?;
        return Ok(());
    }
    if matches!(alter, Alter::Remove) {
        confirm(change, &format!("Remove the user {name}?"))?;
    }
    let act: Act = act(ops, change);
    match alter {
        Alter::Disable => ops.disable_user(name, &act).await?,
        Alter::Enable => ops.enable_user(name, &act).await?,
        Alter::Remove => ops.remove_user(name, &act).await?,
    }
    writeln!(out, "{done}")?;
    Ok(())
}

fn granted(roles: &Roles) -> Vec<RoleGrant> {
    let mut granted = Vec::new();
    for grant in &roles.roles {
        match (&grant.shop, roles.shops.as_slice()) {
            (None, shops) if !shops.is_empty() => {
                let in_shop =
                    |shop: &String| RoleGrant { shop: Some(shop.clone()), ..grant.clone() };
                granted.extend(shops.iter().map(in_shop));
            }
            _ => granted.push(grant.clone()),
        }
    }
    granted.sort();
    granted.dedup();
    granted
}

/// A password, and whether it was made here: from standard input, twice from the terminal, or
/// generated.
fn obtain(ops: &Ops, name: &str, from: &PasswordFrom) -> anyhow::Result<(String, bool)> {
    if from.password_stdin {
        return Ok((from_stdin()?, false));
    }
    if from.generate || !std::io::stdin().is_terminal() {
        return Ok((ops.new_password(), true));
    }
    let password = rpassword::prompt_password(format!("Password for {name}: "))?;
    check_password(name, &password).map_err(anyhow::Error::msg)?;
    if rpassword::prompt_password("The same again: ")? != password {
        bail!("the two passwords differ; nothing was done");
    }
    Ok((password, false))
}

fn from_stdin() -> anyhow::Result<String> {
    let mut line = String::new();
    // 4 bytes per character at most, and the end of the line.
    let most = u64::try_from(MAX_PASSWORD * 4 + 3)?;
    let stdin = std::io::stdin().lock();
    stdin.take(most).read_line(&mut line).context("no password on standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn show_once(password: Option<&str>, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(password) = password else { return Ok(()) };
    writeln!(out, "{password}")?;
    eprintln!("This is the only time that the password is shown.");
    Ok(())
}

fn list_users(users: &[User], format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    let views: Vec<UserView> = users.iter().map(UserView::of).collect();
    let time = |text: Option<&str>| shown_time(Format::Table, text);
    let columns: [Column<'_, UserView>; 5] = [
        ("NAME", &|u| u.name.clone()),
        ("ROLES", &|u| roles_text(&u.roles)),
        ("CREATED", &|u| time(Some(&u.created_at))),
        ("PASSWORD SET", &|u| time(Some(&u.password_changed_at))),
        ("DISABLED", &|u| time(u.disabled_at.as_deref())),
    ];
    print(
        out,
        format,
        &views,
        &columns,
        "No users. Add one: order-relay users add NAME --role admin",
    )
}

/// `tokens …`
pub async fn tokens(ops: &Ops, command: Tokens, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Tokens::Create { name, scopes, shops, expires_in, change } => {
            let act = act(ops, &change);
            let expires_at = match expires_in {
                Some(time) => Some(act.now.checked_add(time).context("--expires-in is too long")?),
                None => None,
            };
            if change.dry_run {
                writeln!(out, "would create the token {name}: {}", scopes.join(" "))?;
                return Ok(Exit::Done);
            }
            let scopes = scopes.iter().filter_map(|scope| Permission::from_name(scope)).collect();
            let shops = (!shops.is_empty()).then_some(shops);
            let new = NewToken { name, scopes, shops, expires_at };
            let token = ops.create_token(new, &act).await?;
            writeln!(out, "{token}")?;
            eprintln!("This is the only time that the token is shown.");
        }
        Tokens::List(output) => {
            let tokens = ops.tokens(&operator(&Change::default())).await?;
            list_tokens(&tokens, output.output, out)?;
        }
        Tokens::Revoke { name, change } => {
            if change.dry_run {
                writeln!(out, "would revoke the token {name}")?;
                return Ok(Exit::Done);
            }
            ops.revoke_token(&name, &act(ops, &change)).await?;
            writeln!(out, "revoked")?;
        }
    }
    Ok(Exit::Done)
}

fn list_tokens(tokens: &[ApiToken], format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    let views: Vec<TokenView> = tokens.iter().map(TokenView::of).collect();
    let time = |text: Option<&str>| shown_time(Format::Table, text);
    let columns: [Column<'_, TokenView>; 6] = [
        ("NAME", &|t| t.name.clone()),
        ("SCOPES", &|t| t.scopes.join(" ")),
        ("SHOPS", &|t| t.shops.as_ref().map(|shops| shops.join(" ")).unwrap_or_default()),
        ("CREATED", &|t| time(Some(&t.created_at))),
        ("EXPIRES", &|t| time(t.expires_at.as_deref())),
        ("REVOKED", &|t| time(t.revoked_at.as_deref())),
    ];
    print(out, format, &views, &columns, "No tokens.")
}

/// `users`
#[derive(Debug, Subcommand)]
pub enum Users {
    /// Add a user; asks for the password, or generates one and shows it once
    #[command(after_help = "Examples:
  order-relay users add erika --role admin
  order-relay users add kim --role viewer --role operator:de
  order-relay users add kim --role operator --shop de --shop at")]
    Add {
        /// The login name
        name: String,
        #[command(flatten)]
        /// What they may do
        roles: Roles,
        /// The language of their pages: en or de [default: the browser's]
        #[arg(long, value_parser = LANGUAGES)]
        language: Option<String>,
        #[command(flatten)]
        /// Where the password comes from
        password: PasswordFrom,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// List users
    List(Output),
    /// Set a user's password and end their sessions
    SetPassword {
        /// Who
        name: String,
        #[command(flatten)]
        /// Where the password comes from
        password: PasswordFrom,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// End all sessions of a user, also those of the identity provider
    #[command(after_help = "Example:
  order-relay users end-sessions erika --reason \"laptop stolen\"

A local user can log in again with the password: `users disable` prevents that. One of the identity provider has to be
blocked there.")]
    EndSessions {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Give a user other roles, effective at once
    SetRoles {
        /// Who
        name: String,
        #[command(flatten)]
        /// What they may do from now on
        roles: Roles,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Disable a user and end their sessions
    Disable {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Enable a user
    Enable {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// Remove a user and end their sessions; their actions stay in the audit
    Remove {
        /// Who
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
}

/// Roles, for all shops or single ones.
#[derive(Debug, Clone, Args)]
pub struct Roles {
    /// viewer, operator, editor or admin; ROLE:SHOP for one shop only
    #[arg(long = "role", required = true, value_name = "ROLE", value_parser = role_grant)]
    pub roles: Vec<RoleGrant>,
    /// Shops that the roles are for [default: all]
    #[arg(long = "shop", value_name = "SHOP")]
    pub shops: Vec<String>,
}

/// Where a password comes from.
#[derive(Debug, Clone, Args)]
pub struct PasswordFrom {
    /// Read the password from standard input, up to the end of the line
    #[arg(long)]
    pub password_stdin: bool,
    /// Generate a password and show it once
    #[arg(long, conflicts_with = "password_stdin")]
    pub generate: bool,
}

pub fn role_grant(text: &str) -> Result<RoleGrant, String> {
    let (role, shop) = match text.split_once(':') {
        Some((role, shop)) => (role, Some(shop.to_owned())),
        None => (text, None),
    };
    let role = Role::from_name(role)
        .ok_or_else(|| format!("`{role}` is none of {}", Role::ALL.map(Role::as_str).join(", ")))?;
    Ok(RoleGrant { role, shop })
}

/// `tokens`
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Create a token; it is shown once
    #[command(after_help = "Examples:
  order-relay tokens create checkout --scope orders:publish
  order-relay tokens create desk-de --scope orders:read --scope lostorder_process --shop de")]
    Create {
        /// What it is for
        name: String,
        /// What it may do
        #[arg(long = "scope", required = true, value_parser = SCOPES)]
        scopes: Vec<String>,
        /// Shops that it is limited to [default: to none]
        #[arg(long = "shop", value_name = "SHOP")]
        shops: Vec<String>,
        /// When it expires, e.g. 90d
        #[arg(long, value_parser = lifetime)]
        expires_in: Option<SignedDuration>,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
    /// List tokens
    List(Output),
    /// Revoke a token
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        /// Usual
        change: Change,
    },
}

pub fn lifetime(text: &str) -> Result<SignedDuration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let parsed = match days {
        Some(days) => days.checked_mul(24).map(SignedDuration::from_hours),
        None => text.parse::<SignedDuration>().ok(),
    };
    parsed
        .filter(|time| time.is_positive())
        .ok_or_else(|| "expected a time such as 90d or 12h".to_owned())
}
