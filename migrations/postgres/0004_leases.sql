-- Locks that are held longer than a transaction, who took one from its holder, and which store this is.
-- Twin: migrations/sqlite/0004_leases.sql.

create table leases (
  name text primary key,
  -- Of the grant: made by who asks, before.
  id text not null unique,
  -- Fences late holders: each grant of a name has a larger one. It is the larger of the last one plus one and the time in
  -- milliseconds, so that it goes on growing where this row was pruned, or the database was restored from an old copy.
  token bigint not null,
  -- Only who knows this renews and releases.
  owner text not null,
  -- Who asked, and under which id: the same again is given the same grant again.
  principal text not null,
  request text not null,
  note text not null,
  ttl_ms bigint not null,
  granted_at_ms bigint not null,
  -- Held while this is ahead, by the database's clock. A release moves it to now.
  until_ms bigint not null,
  released_at_ms bigint
);
create index leases_until on leases (until_ms);

-- Locks that were taken from their holder by hand.
create table lock_audit (
  id text primary key,
  name text not null,
  token bigint not null,
  -- Whose it was.
  holder text not null,
  note text not null,
  -- Who took it away, and why.
  principal text not null,
  reason text not null,
  at_ms bigint not null
);
create index lock_audit_name on lock_audit (name, id);

-- One row: the id of this store, by which a namespace in Redis knows whose it is.
create table store_identity (
  one bigint primary key check (one = 1),
  id text not null
);
