//! `users …`, `tokens …`: access.

use std::io::{BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail};

use crate::cli::args::{Change, Format, PasswordFrom, Roles, Tokens, Users};
use crate::cli::exit::Exit;
use crate::cli::orders::{act, confirm, operator};
use crate::cli::output::{Column, local, print};
use crate::domain::login::{MAX_PASSWORD, check_password};
use crate::domain::permission::{Permission, RoleGrant, roles_text};
use crate::ops::orders::Ops;
use crate::ops::people::NewUser;
use crate::ops::tokens::NewToken;
use crate::ports::audit::Act;
use crate::ports::people::{ApiToken, User};

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
    let columns: [Column<'_, User>; 5] = [
        ("NAME", &|u| u.name.clone()),
        ("ROLES", &|u| roles_text(&u.roles)),
        ("CREATED", &|u| local(u.created_at)),
        ("PASSWORD SET", &|u| local(u.password_changed_at)),
        ("DISABLED", &|u| u.disabled_at.map(local).unwrap_or_default()),
    ];
    print(
        out,
        format,
        users,
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
    let columns: [Column<'_, ApiToken>; 6] = [
        ("NAME", &|t| t.name.clone()),
        ("SCOPES", &|t| t.scopes.join(" ")),
        ("SHOPS", &|t| t.shops.as_ref().map(|shops| shops.join(" ")).unwrap_or_default()),
        ("CREATED", &|t| local(t.created_at)),
        ("EXPIRES", &|t| t.expires_at.map(local).unwrap_or_default()),
        ("REVOKED", &|t| t.revoked_at.map(local).unwrap_or_default()),
    ];
    print(out, format, tokens, &columns, "No tokens.")
}
