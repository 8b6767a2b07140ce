-- Before a stored file is removed it is looked up who names it. Twin: migrations/sqlite/0009_files.sql.
create index generated_videos_file on generated_videos (file) where file is not null;
create index mailbox_file on mailbox (file) where file is not null;
