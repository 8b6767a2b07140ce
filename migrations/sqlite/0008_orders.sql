-- Orders of videos, the payments that were made for them, and every step of either.
-- Amounts are whole hundredths of the currency. Twin: migrations/postgres/0008_orders.sql.

create table orders (
  id text primary key,
  user_id text not null,
  chat text,
  -- As the video is asked for when the order is paid.
  name text not null,
  gender text not null,
  template text not null,
  amount bigint not null check (amount > 0),
  currency text not null check (length(currency) = 3),
  state text not null
    check (state in ('awaiting_payment', 'paid', 'fulfilled', 'cancelled', 'expired', 'refunded')),
  -- The request for the video: made in the commit that makes the order paid.
  request_id text,
  expires_at_ms bigint not null,
  created_at_ms bigint not null,
  touched_at_ms bigint not null,
  check (state not in ('paid', 'fulfilled') or request_id is not null)
);
create index orders_unpaid on orders (expires_at_ms) where state = 'awaiting_payment';
create index orders_user on orders (user_id, id);
create index orders_state on orders (state, id);
create index orders_request on orders (request_id) where request_id is not null;

-- Money that the provider took, one row for each of its transactions.
create table order_payments (
  transaction_id text primary key,
  -- Nothing: no order of ours has the invoice's number; a person decides.
  order_id text references orders (id),
  invoice text not null,
  amount bigint not null check (amount > 0),
  currency text not null,
  -- applied: it pays its order; returning: on its way back; stuck: the way back failed, a person decides.
  state text not null check (state in ('applied', 'returning', 'returned', 'stuck', 'unknown')),
  -- It is what its order was paid with; also when it has gone back since.
  pays boolean not null,
  returned_amount bigint not null check (returned_amount >= 0 and returned_amount <= amount),
  reason text,
  -- The saga that brings it back.
  refund_id text,
  created_at_ms bigint not null,
  touched_at_ms bigint not null,
  check (state <> 'returned' or returned_amount = amount),
  check (state <> 'returning' or refund_id is not null),
  check (state in ('unknown', 'returned') or order_id is not null),
  check (state <> 'applied' or pays)
);
-- An order is paid once.
create unique index order_payments_pays on order_payments (order_id) where pays;
create index order_payments_order on order_payments (order_id);
create index order_payments_state on order_payments (state, transaction_id);

-- What the provider told us and what it was answered: the same again is answered the same again.
create table order_notices (
  -- A 'payment' is no notice: its row is locked by whatever concerns that payment, so that these come one by one.
  kind text not null check (kind in ('payment', 'pay', 'fail', 'refund')),
  transaction_id text not null,
  -- Of a refund: the payment that it gives back.
  payment_id text,
  amount bigint,
  code bigint not null,
  created_at_ms bigint not null,
  primary key (kind, transaction_id)
);
create index order_notices_payment on order_notices (payment_id) where payment_id is not null;

-- The audit: who did what to which order, also what was refused.
create table order_events (
  order_id text not null,
  at_ms bigint not null,
  actor text not null,
  event text not null,
  from_state text,
  to_state text,
  reason text,
  transaction_id text
);
create index order_events_order on order_events (order_id, at_ms);
