-- Nothing: each row has its rowid. Twin: migrations/postgres/0010_order_events.sql.
select 1;
