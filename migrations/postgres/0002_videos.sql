-- The videos that were made, their files at Telegram, and the local mailbox.
-- Twin: migrations/sqlite/0002_videos.sql.

create table generated_videos (
  name_key text not null,
  gender text not null,
  template text not null,
  name text not null,
  file text,
  file_id text,
  bytes bigint,
  made_at_ms bigint not null,
  flight_id text not null,
  generation bigint not null,
  primary key (name_key, gender, template)
);

-- A file is uploaded once per bot; the others of its flight wait for the file_id.
create table telegram_files (
  bot text not null,
  flight_id text not null,
  generation bigint not null,
  file_id text,
  uploader text,
  uploader_until_ms bigint,
  primary key (bot, flight_id, generation)
);

create table mailbox (
  id text primary key,
  owner text not null,
  chat text,
  kind text not null check (kind in ('video', 'message', 'result')),
  text text not null,
  file text,
  flight_id text not null,
  generation bigint not null,
  created_at_ms bigint not null
);
create index mailbox_owner on mailbox (owner, id);
create index mailbox_age on mailbox (created_at_ms);
