-- Who may call, what they were answered, and which servers are alive.
-- Twin: migrations/postgres/0003_access.sql.

create table api_keys (
  id text primary key,
  name text not null,
  -- SHA-256 of the secret, in hex. The secret has 256 random bits, so that a slow hash adds nothing.
  hash text not null,
  scopes text not null,
  created_at_ms bigint not null,
  revoked_at_ms bigint
);

-- The answer to a write, stored in the write's own transaction.
create table idempotency (
  principal text not null,
  key text not null,
  fingerprint text not null,
  status bigint not null,
  body text not null,
  location text,
  created_at_ms bigint not null,
  primary key (principal, key)
);
create index idempotency_age on idempotency (created_at_ms);

create table servers (
  id text primary key,
  role text not null,
  started_at_ms bigint not null,
  seen_at_ms bigint not null
);

-- Which queues were paused when Redis was last seen; while it is away, they stay so.
create table paused_queues (
  queue text primary key
);
