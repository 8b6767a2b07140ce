//! The "no"s of this workload: a stable code and a sentence for the person who asked.

use crate::refusal::{Kind, Refusal};

pub const UNKNOWN: Refusal =
    Refusal::new("order_unknown", Kind::Unknown, "There is no such order.", "Такого заказа нет.");
pub(super) const FOREIGN: Refusal =
    Refusal::new("order_foreign", Kind::Foreign, "This order is somebody else's.", "Это чужой заказ.");
pub(super) const AMOUNT: Refusal = Refusal::new(
    "order_amount",
    Kind::Unfit,
    "An order cannot cost this much or this little.",
    "Заказ не может столько стоить.",
);
pub(super) const CURRENCY: Refusal =
    Refusal::new("order_currency", Kind::Unfit, "We do not take this currency.", "Мы не принимаем эту валюту.");
pub(super) const CLOSED: Refusal =
    Refusal::new("order_closed", Kind::Conflict, "The order is closed already.", "Заказ уже закрыт.");
pub(super) const PAID: Refusal = Refusal::new(
    "order_paid",
    Kind::Conflict,
    "The order is paid; ask for a refund instead.",
    "Заказ уже оплачен; можно попросить вернуть деньги.",
);
pub(super) const NOT_PAID: Refusal = Refusal::new(
    "order_not_paid",
    Kind::Conflict,
    "No payment of this order can be returned.",
    "По этому заказу нечего возвращать.",
);
pub(super) const REFUNDING: Refusal = Refusal::new(
    "order_refunding",
    Kind::Conflict,
    "The money is on its way back already.",
    "Деньги уже возвращаются.",
);
