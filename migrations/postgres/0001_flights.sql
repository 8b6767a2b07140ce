-- Single flight: one row per wanted result, who waits for it, and how each run of it ended.
-- Times are milliseconds since 1970, as in Redis. Twin: migrations/sqlite/0001_flights.sql.

create table flights (
  id text primary key,
  scope text not null,
  -- The dedupe key as a JSON array of its parts.
  key text not null,
  -- The queue in which the runs are worked off.
  queue text not null,
  -- The current run. A new run is a new generation.
  generation bigint not null,
  state text not null check (state in ('idle', 'pending', 'running', 'succeeded', 'failed', 'cancelled')),
  name text not null,
  data text not null,
  priority bigint not null,
  attempt bigint not null,
  max_attempts bigint not null,
  backoff text not null,
  -- Fences the worker that has the run: whoever comes with another token changes nothing.
  run_token text,
  lease_until_ms bigint,
  next_at_ms bigint not null,
  started_at_ms bigint,
  error text,
  -- A remembered failure is answered until then.
  negative_until_ms bigint,
  cancel_when_abandoned boolean not null,
  -- The last good result stands apart, so that a failed refresh leaves it.
  result text,
  result_generation bigint,
  made_at_ms bigint,
  -- True while Redis may say something else than this row.
  dirty boolean not null,
  created_at_ms bigint not null,
  touched_at_ms bigint not null,
  -- Full on purpose: a partial index over open runs lets a second run begin.
  unique (scope, key)
);
create index flights_open on flights (touched_at_ms) where state in ('pending', 'running');
create index flights_due on flights (queue, next_at_ms) where state in ('pending', 'running');
create index flights_dirty on flights (touched_at_ms) where dirty;

-- How each finished generation ended: what later readers of an older request are told.
create table runs (
  flight_id text not null references flights (id) on delete cascade,
  generation bigint not null,
  state text not null check (state in ('succeeded', 'failed', 'cancelled')),
  result text,
  error text,
  attempts bigint not null,
  -- Of the worker that ended it, for a report that is repeated.
  token text,
  started_at_ms bigint,
  finished_at_ms bigint not null,
  primary key (flight_id, generation)
);
create index runs_age on runs (finished_at_ms);

-- A subscription is a request: its id is the request's id, and its delivery's.
create table subscriptions (
  id text primary key,
  flight_id text not null references flights (id) on delete cascade,
  generation bigint not null,
  subscriber text not null,
  channel text not null check (channel in ('poll', 'mailbox', 'telegram', 'webhook', 'follower')),
  target text not null,
  state text not null check (state in ('open', 'closed', 'left')),
  created_at_ms bigint not null
);
create unique index subscriptions_open on subscriptions (flight_id, generation, subscriber, channel, target)
  where state = 'open';
create index subscriptions_flight on subscriptions (flight_id, generation);
create index subscriptions_subscriber on subscriptions (subscriber, id);
create index subscriptions_age on subscriptions (created_at_ms);

create table deliveries (
  id text primary key references subscriptions (id) on delete cascade,
  flight_id text not null,
  generation bigint not null,
  channel text not null,
  target text not null,
  state text not null check (state in ('queued', 'leased', 'delivered', 'suppressed', 'dead')),
  attempts bigint not null,
  ambiguous bigint not null,
  next_at_ms bigint not null,
  -- When the pace lets it go; reserved once.
  slot_at_ms bigint,
  lease_token text,
  lease_until_ms bigint,
  error text,
  receipt text,
  created_at_ms bigint not null,
  touched_at_ms bigint not null
);
create index deliveries_due on deliveries (next_at_ms) where state in ('queued', 'leased');
create index deliveries_untouched on deliveries (touched_at_ms) where state in ('queued', 'leased');
create index deliveries_flight on deliveries (flight_id, generation);

create table delivery_events (
  delivery_id text not null references deliveries (id) on delete cascade,
  at_ms bigint not null,
  event text not null,
  detail text
);
create index delivery_events_delivery on delivery_events (delivery_id, at_ms);
