-- Interview slots and who has them, and the lines that are kept where something changes its owner.
-- Twin: migrations/sqlite/0005_slots.sql.

create table slots (
  -- The administrator's own id.
  id text primary key,
  starts_at_ms bigint not null,
  title text not null,
  -- True for one that is booked and no longer listed: it goes when its booking does.
  withdrawn boolean not null,
  updated_at_ms bigint not null
);
create index slots_start on slots (starts_at_ms, id);

-- One row: whoever brings a new list holds it, so that two lists are not mixed.
create table slot_lists (
  name text primary key,
  version bigint not null,
  synced_at_ms bigint not null,
  synced_by text not null
);

create table bookings (
  id text primary key,
  slot_id text not null,
  -- As of the booking: the slot may be gone when somebody looks.
  starts_at_ms bigint not null,
  owner text not null,
  state text not null check (state in ('booked', 'cancelled')),
  booked_at_ms bigint not null,
  cancelled_at_ms bigint
);
-- Whoever books holds the slot's row, so that this is never violated; it stands for whoever forgets to.
create unique index bookings_open on bookings (slot_id) where state = 'booked';
create index bookings_owner on bookings (owner, id);
create index bookings_age on bookings (starts_at_ms);

-- What happened to things that people own, and what they tried with those of others.
create table ownership_audit (
  id text primary key,
  at_ms bigint not null,
  workload text not null,
  subject text not null,
  -- The end user who asked.
  actor text not null,
  -- The API key or the queue through which they asked.
  by_whom text not null,
  event text not null,
  detail text
);
create index ownership_audit_subject on ownership_audit (workload, subject, id);
create index ownership_audit_age on ownership_audit (at_ms);
