-- The pickup point: orders that are there, what happened to each, and the version of each user's lists.
-- Twin: migrations/postgres/0006_pickup.sql.

create table pickup_orders (
  -- The courier's id. Free again when the order went back to the courier.
  id text primary key,
  -- Ours, which sorts by the time of accepting.
  place text not null unique,
  owner text not null,
  state text not null check (state in ('accepted', 'issued', 'returned')),
  storage_until_ms bigint not null,
  accepted_at_ms bigint not null,
  issued_at_ms bigint,
  returned_at_ms bigint
);
create index pickup_orders_owner on pickup_orders (owner, place);

-- Outlives the order: no foreign key.
create table pickup_history (
  id text primary key,
  order_id text not null,
  owner text not null,
  event text not null check (event in ('accepted', 'issued', 'returned', 'returned_to_courier')),
  at_ms bigint not null,
  -- The API key or the queue through which it was asked for.
  by_whom text not null
);
create index pickup_history_owner on pickup_history (owner, id);
create index pickup_history_order on pickup_history (order_id, id);
create index pickup_history_age on pickup_history (at_ms);

-- Raised by each change of a user's orders, in its transaction: a cached page of an older version is not served.
-- Rows stay, as a version that began anew could be one that Redis still knows.
create table pickup_versions (
  owner text primary key,
  version bigint not null
);
