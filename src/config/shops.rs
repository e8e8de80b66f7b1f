//! What can differ from shop to shop: `max_failed_order`, `time_zone`, `retry.*`, `erp.*`, `mail.*`, for all shops or below
//! `shops.NAME`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::order::values::Shop;
use crate::domain::retry::{FIRST_ASK, RetryPolicy};

use super::erp::ErpSettings;
use super::mail::MailSettings;
use super::reader::{ONE_DAY, ONE_MS, Reader};

/// What can differ from shop to shop.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    /// `max_failed_order`; `None`: never parked by the count.
    pub max_failed_order: Option<u32>,
    /// `retry.schedule`
    pub schedule: Vec<Duration>,
    /// `time_zone`
    pub time_zone: TimeZone,
    /// `erp.*`
    pub erp: ErpSettings,
    /// `mail.*`
    pub mail: MailSettings,
    /// Whether the shop has an ERP of its own.
    pub has_own_erp: bool,
    /// Whether the shop has mail settings of its own.
    pub has_own_mail: bool,
}

impl ShopSettings {
    /// What applies to the shop that the reader has entered.
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            max_failed_order: r.number_or_none("max_failed_order", 1..=1_000_000),
            time_zone: r.time_zone("time_zone"),
            schedule: r.durations("retry.schedule", ONE_MS..=ONE_DAY * 30),
            has_own_erp: r.shop_has("erp"),
            has_own_mail: r.shop_has("mail"),
            erp: ErpSettings::read(r),
            mail: MailSettings::read(r),
        }
    }

    /// Shops with a table of their own.
    pub(super) fn read_all(r: &mut Reader) -> BTreeMap<String, Self> {
        let mut shops = BTreeMap::new();
        for shop in r.shops() {
            if let Err(error) = Shop::try_from(shop.clone()) {
                r.fault(&format!("shops.{shop}"), error);
            }
            r.enter_shop(Some(&shop));
            shops.insert(shop, Self::read(r));
        }
        r.enter_shop(None);
        shops
    }

    /// What follows a failed attempt.
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            schedule: self.schedule.clone(),
            on_rejected: self.erp.on_rejected,
            settle: self.erp.settle,
            ask_every: FIRST_ASK,
        }
    }
}
