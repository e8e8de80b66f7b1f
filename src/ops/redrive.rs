//! Redrives as people control them; `workers::redriver` runs them.

use uuid::Uuid;

use crate::domain::circuit::CircuitState;
use crate::domain::order::fault::Reason;
use crate::domain::permission::Permission;
use crate::domain::redrive::{ItemStatus, RedriveStatus, RedriveVerb, check_rate};
use crate::ports::audit::Act;
use crate::ports::redrives::{Redrive, RedriveItem};
use crate::ports::workers::WorkerKind;

use super::redrive_plan::{authorize_anywhere, unprocessable};
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

impl Ops {
    pub(super) async fn any_redrive(&self, id: Uuid) -> Result<Redrive, Refusal> {
        let redrive = self.store.redrive(id).await?;
        redrive.ok_or_else(|| Refusal::not_found("redrive", id))
    }

    /// Whether it should run but no live process has the role for it.
    pub async fn is_unattended(&self, redrive: &Redrive) -> Result<bool, Refusal> {
        if redrive.status != RedriveStatus::Running {
            return Ok(false);
        }
        let workers = self.store.workers(self.clock.now()).await?;
        Ok(!workers
            .iter()
            .any(|worker| worker.roles.iter().any(|role| role == WorkerKind::Sweeper.as_str())))
    }

    /// One redrive, if the caller may see every shop whose orders are in it.
    pub async fn redrive(&self, person: &Principal, id: Uuid) -> Result<Redrive, Refusal> {
        let redrive = self.any_redrive(id).await?;
        match self.is_seen(&redrive, person).await? {
            true => Ok(redrive),
            false => Err(Refusal::not_found("redrive", id)),
        }
    }

    /// Whether any process transfers orders; also when that cannot be known.
    pub async fn is_anybody_transferring(&self) -> bool {
        let Ok(workers) = self.store.workers(self.clock.now()).await else { return true };
        let submits = |role: &String| role == WorkerKind::Submitter.as_str();
        workers.iter().any(|worker| worker.roles.iter().any(submits))
    }

    /// Those of the newest redrives whose every shop may be seen, newest first.
    pub async fn redrives(&self, person: &Principal, limit: u32) -> Result<Vec<Redrive>, Refusal> {
        let mut seen = Vec::new();
        for redrive in self.store.redrives(limit).await? {
            if self.is_seen(&redrive, person).await? {
                seen.push(redrive);
            }
        }
        Ok(seen)
    }

    /// One without orders belongs to no shop: whoever planned it sees it, and whoever sees every shop.
    async fn is_seen(&self, redrive: &Redrive, person: &Principal) -> Result<bool, Refusal> {
        let shops = person.readable();
        if shops.is_all() {
            return Ok(true);
        }
        let own = self.store.redrive_shops(redrive.id, None).await?;
        Ok(match own.is_empty() {
            true => redrive.created_by == person.name,
            false => own.iter().all(|shop| shops.contains(shop)),
        })
    }

    /// Orders of a redrive in their order, those after `after`.
    pub async fn redrive_items(
        &self,
        person: &Principal,
        id: Uuid,
        status: Option<ItemStatus>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RedriveItem>, Refusal> {
        self.redrive(person, id).await?;
        Ok(self.store.redrive_items(id, status, after, limit).await?)
    }

    /// Begins a plan.
    pub async fn start_redrive(&self, id: Uuid, act: &Act) -> Result<Redrive, Refusal> {
        self.change_redrive(id, RedriveVerb::Start, act).await
    }

    /// Pauses a redrive; orders that were sent are still answered.
    pub async fn pause_redrive(&self, id: Uuid, act: &Act) -> Result<Redrive, Refusal> {
        self.change_redrive(id, RedriveVerb::Pause, act).await
    }

    /// Resumes a paused or stopped redrive; after a stop the ramp starts again.
    pub async fn resume_redrive(&self, id: Uuid, act: &Act) -> Result<Redrive, Refusal> {
        self.change_redrive(id, RedriveVerb::Resume, act).await
    }

    /// Ends a redrive; what was not sent stays as it is.
    pub async fn cancel_redrive(&self, id: Uuid, act: &Act) -> Result<Redrive, Refusal> {
        self.change_redrive(id, RedriveVerb::Cancel, act).await
    }

    async fn change_redrive(
        &self,
        id: Uuid,
        verb: RedriveVerb,
        act: &Act,
    ) -> Result<Redrive, Refusal> {
        let redrive = self.any_redrive(id).await?;
        self.authorize_redrive(id, act).await?;
        let mut stopped = Vec::new();
        if matches!(verb, RedriveVerb::Start | RedriveVerb::Resume) {
            redrive.status.after(verb)?;
            stopped = self.stopped_shops(id, act).await?;
            // An in-process broker cannot be queried from another process.
            if self.broker.is_durable() {
                self.refuse_when_nobody_reads().await?;
            }
        }
        match self.store.change_redrive(id, verb, &stopped, act).await? {
            Some(Ok(redrive)) => Ok(redrive),
            Some(Err(invalid)) => Err(invalid.into()),
            None => Err(Refusal::not_found("redrive", id)),
        }
    }

    /// Changes the rate of a redrive, also while it runs.
    pub async fn set_redrive_rate(
        &self,
        id: Uuid,
        rate_per_minute: Option<u32>,
        act: &Act,
    ) -> Result<Redrive, Refusal> {
        check_rate(rate_per_minute).map_err(|told| unprocessable(Reason::Schema, &told))?;
        let redrive = self.any_redrive(id).await?;
        self.authorize_redrive(id, act).await?;
        if !self.store.set_redrive_rate(id, rate_per_minute, act).await? {
            return Err(Refusal::NoRate(redrive.status));
        }
        self.any_redrive(id).await
    }

    /// Refuses callers without the permission in every shop whose orders are in it.
    pub async fn authorize_redrive(&self, id: Uuid, act: &Act) -> Result<(), Refusal> {
        let shops = self.store.redrive_shops(id, None).await?;
        if shops.is_empty() {
            let own = self.any_redrive(id).await?.created_by == act.actor;
            return if own {
                authorize_anywhere(act)
            } else {
                authorize(act, Permission::Process, None)
            };
        }
        shops.iter().try_for_each(|shop| authorize(act, Permission::Process, Some(shop)))
    }

    /// Shops with waiting orders whose ERP accepts none now; refused if there are no others.
    async fn stopped_shops(&self, id: Uuid, act: &Act) -> Result<Vec<String>, Refusal> {
        let circuits = self.store.circuits().await?;
        let stopped = |shop: &String| {
            let erp = self.erps.erp_of_shop(shop);
            circuits.iter().find(|c| c.erp == erp && c.state == CircuitState::Open)
        };
        let shops = self.store.redrive_shops(id, Some(ItemStatus::Waiting)).await?;
        let (away, usable): (Vec<_>, Vec<_>) =
            shops.into_iter().partition(|shop| stopped(shop).is_some());
        match away.first().and_then(stopped) {
            Some(circuit) if usable.is_empty() => Err(self.stopped(circuit.clone(), &act.grants)),
            _ => Ok(away),
        }
    }
}
