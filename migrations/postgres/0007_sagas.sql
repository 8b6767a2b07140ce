-- External effects: what was reserved in a unit of work, must then happen outside at most once, and how that ended.
-- Twin: migrations/sqlite/0007_sagas.sql.

create table sagas (
  -- Given to the outside with each call, so that a repetition is known there as one.
  id text primary key,
  -- Which effect; labels logs and metrics.
  name text not null,
  -- What the effect belongs to, for people.
  subject text not null,
  input text not null,
  -- due: to be called; unknown: to be asked about; calling, asking: in somebody's hand until the lease ends;
  -- parked: for a person.
  state text not null check (state in ('due', 'calling', 'unknown', 'asking', 'confirmed', 'compensated', 'parked')),
  calls bigint not null check (calls >= 0),
  asks bigint not null check (asks >= 0),
  -- When it was called first: for how long the outside still knows the id is counted from then.
  called_at_ms bigint,
  next_at_ms bigint not null,
  lease_token text,
  lease_until_ms bigint,
  receipt text,
  error text,
  created_at_ms bigint not null,
  touched_at_ms bigint not null,
  check ((state in ('calling', 'asking')) = (lease_token is not null))
);
create index sagas_due on sagas (next_at_ms) where state in ('due', 'unknown');
create index sagas_held on sagas (lease_until_ms) where state in ('calling', 'asking');
create index sagas_state on sagas (state, id);

-- What happened to each, and who decided where a person did.
create table saga_events (
  saga_id text not null references sagas (id) on delete cascade,
  at_ms bigint not null,
  actor text not null,
  event text not null,
  detail text
);
create index saga_events_saga on saga_events (saga_id, at_ms);
