//! ERPs and their circuits: which one has a shop, and stopping and releasing the transfer to it.

use std::time::Duration;

use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::{Grants, Permission};
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::clock::Stopwatch;

/// How long a queue may have no reader before a person is told to start one.
const READER_PATIENCE: Duration = Duration::from_secs(3);

impl Ops {
    /// The ERPs of the shops that the person may see with their circuits, also those that were never opened.
    pub async fn circuits(&self, person: &Principal) -> Result<Vec<Circuit>, Refusal> {
        person.authorize_somewhere(Permission::Read)?;
        let known = self.known_circuits().await?.into_iter();
        Ok(known.filter_map(|circuit| self.shown_to(&person.grants, circuit)).collect())
    }

    /// What somebody may see of a circuit. Its reason is the answer to an order of any of its shops, or what a person
    /// wrote to all of them: whoever may not see all of those is not told.
    fn shown_to(&self, grants: &Grants, circuit: Circuit) -> Option<Circuit> {
        let Some(shops) = grants.shops_allowing(Permission::Read) else { return Some(circuit) };
        match self.shop_of_erp(&circuit.erp) {
            Some(own) => shops.iter().any(|shop| shop == own).then_some(circuit),
            None => {
                let serves = |shop: &String| self.erps.erp_of_shop(shop) == circuit.erp;
                shops.iter().any(serves).then_some(Circuit { reason: None, ..circuit })
            }
        }
    }

    async fn known_circuits(&self) -> Result<Vec<Circuit>, Refusal> {
        let known = self.store.circuits().await?;
        let circuit = |name: &str| known.iter().find(|circuit| circuit.erp == name).cloned();
        let names = self.erps.names().into_iter();
        Ok(names.map(|n| circuit(n).unwrap_or_else(|| Circuit::closed(n))).collect())
    }

    /// Stops the transfer to an ERP until it is released: orders are received and held.
    pub async fn hold(&self, erp: &str, act: &Act) -> Result<Circuit, Refusal> {
        authorize(act, Permission::Process, self.shop_of_erp(erp))?;
        self.circuit(erp).await?;
        let reason = act.reason.as_deref().unwrap_or("no reason given");
        let reason = format!("held by {}: {reason}", act.actor);
        self.store.hold_circuit(erp, &reason, act).await?;
        self.circuit(erp).await
    }

    /// Resumes the transfer to an ERP, starting with one order; also before the pause of an outage
    /// is over.
    pub async fn release(&self, erp: &str, act: &Act) -> Result<Circuit, Refusal> {
        authorize(act, Permission::Process, self.shop_of_erp(erp))?;
        self.circuit(erp).await?;
        match self.store.release_circuit(erp, act).await? {
            true => self.circuit(erp).await,
            false => Err(Refusal::NotStopped(erp.to_owned())),
        }
    }

    async fn circuit(&self, erp: &str) -> Result<Circuit, Refusal> {
        let circuits = self.known_circuits().await?;
        if let Some(circuit) = circuits.iter().find(|circuit| circuit.erp == erp) {
            return Ok(circuit.clone());
        }
        let known = circuits.into_iter().map(|circuit| circuit.erp).collect();
        Err(Refusal::NotFound { what: "ERP", name: erp.to_owned(), known })
    }

    /// The shop that an ERP belongs to alone; none for the one that all others share.
    pub fn shop_of_erp(&self, erp: &str) -> Option<&str> {
        self.erps.shop_of_erp(erp)
    }

    /// The name of the ERP that an order goes to.
    pub fn erp_of(&self, key: &OrderKey) -> &str {
        self.erps.erp_of_shop(key.shop.as_str())
    }

    pub(super) async fn refuse_when_stopped(
        &self,
        record: &OrderRecord,
        act: &Act,
    ) -> Result<(), Refusal> {
        let erp = self.erp_of(&record.key);
        let circuits = self.store.circuits().await?;
        let open = |circuit: &Circuit| circuit.erp == erp && circuit.state == CircuitState::Open;
        let Some(circuit) = circuits.into_iter().find(open) else { return Ok(()) };
        Err(self.stopped(circuit, &act.grants))
    }

    /// That an ERP is not usable, with the reason if that may be seen.
    pub(super) fn stopped(&self, circuit: Circuit, grants: &Grants) -> Refusal {
        let erp = circuit.erp.clone();
        let reason = self.shown_to(grants, circuit).and_then(|circuit| circuit.reason);
        let reason = reason.unwrap_or_else(|| "its transfer is stopped".to_owned());
        Refusal::CircuitOpen { erp, reason }
    }

    pub(super) async fn refuse_when_nobody_reads(&self) -> Result<(), Refusal> {
        let queue = self.broker.topology().names.submit();
        let watch = Stopwatch::start();
        // One that was stopped, or whose ERP was released just now, takes a moment to read again.
        while self.broker.queue_status(&queue).await?.consumers == 0 {
            if watch.elapsed() > READER_PATIENCE {
                return Err(Refusal::NoSubmitter { queue });
            }
            tokio::time::sleep(READER_PATIENCE / 10).await;
        }
        Ok(())
    }
}
